//! A storage account for block blobs at `/blob/`: containers, blobs whole or in blocks, ranges,
//! lists. Every request needs a bearer token for Storage, and errors are XML, as in the REST API
//! (<https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api>).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::directory::{STORAGE, TENANT_ID};
use crate::message::{Answer, Request, percent_decode};
use crate::random;
use crate::state::State;
use crate::time::{http_date, now};
use crate::verify;

/// The path of the account.
pub const PREFIX: &str = "/blob";

/// Bearer tokens are known from this version of the service on.
const FIRST_VERSION: &str = "2017-11-09";

/// Containers by name, blobs by name.
#[derive(Debug, Default)]
pub struct Account(Mutex<BTreeMap<String, Container>>);

type Container = BTreeMap<String, Blob>;

#[derive(Debug, Default)]
struct Blob {
    committed: Option<Committed>,
    /// Blocks that were put and not committed yet, by id.
    blocks: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug)]
struct Committed {
    content: Vec<u8>,
    content_type: String,
    etag: String,
    modified: i64,
}

/// Status, code and message of an error.
#[derive(Debug)]
struct StorageError(u16, &'static str, &'static str);

/// Answers a request for the account.
pub fn answer(state: &State, request: &Request) -> Answer {
    let answered = authorize(state, request).and_then(|()| operation(&state.account, request));
    let answer = answered.unwrap_or_else(|refused| error(request, &refused));
    let answer = answer.header("Server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0");
    let answer = answer.header("x-ms-request-id", random::guid());
    match request.header("x-ms-version") {
        Some(version) => answer.header("x-ms-version", version),
        None => answer,
    }
}

fn authorize(state: &State, request: &Request) -> Result<(), StorageError> {
    const INVALID: &str = "InvalidAuthenticationInfo";
    let Some(value) = request.header("authorization") else {
        let text = "Server failed to authenticate the request. Please refer to the information in the \
                    www-authenticate header.";
        return Err(StorageError(401, "NoAuthenticationInformation", text));
    };
    let token = value.strip_prefix("Bearer ").ok_or(StorageError(401, INVALID, "The scheme is not Bearer."))?;
    let invalid = |_| StorageError(401, INVALID, "Server failed to authenticate the request.");
    let token = verify::issued_here(state, token).map_err(invalid)?;
    if !verify::audiences(&token).contains(&STORAGE) {
        return Err(StorageError(401, INVALID, "Audience validation failed. Audience did not match."));
    }
    // Dates of the same form: their order is that of their texts.
    if request.header("x-ms-version").is_none_or(|version| version < FIRST_VERSION) {
        return Err(StorageError(
            400,
            "InvalidHeaderValue",
            "The value for the header x-ms-version is too old or missing.",
        ));
    }
    Ok(())
}

fn error(request: &Request, StorageError(status, code, message): &StorageError) -> Answer {
    let text = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    // No body goes with the answer to HEAD, so that the code has a header of its own.
    let body = if request.method == "HEAD" { String::new() } else { text };
    let answer = Answer::of(*status, "application/xml", body).header("x-ms-error-code", *code);
    if *status != 401 {
        return answer;
    }
    let challenge = format!(
        "Bearer authorization_uri=https://login.microsoftonline.com/{TENANT_ID}/oauth2/authorize resource_id={STORAGE}"
    );
    answer.header("WWW-Authenticate", challenge)
}

fn operation(account: &Account, request: &Request) -> Result<Answer, StorageError> {
    let mut containers = account.0.lock().unwrap();
    let path = request.path.strip_prefix(PREFIX).and_then(|path| path.strip_prefix('/')).unwrap_or_default();
    // Behind the container every byte belongs to the blob's name, further slashes included.
    let (container, blob) = path.split_once('/').map_or((path, None), |(container, blob)| (container, Some(blob)));
    let of = |key: &str| request.query_value(key).unwrap_or_default();
    let (kind, part) = (of("restype"), of("comp"));
    let method = request.method.as_str();
    let unsupported = StorageError(405, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb.");
    let Some(blob) = blob.filter(|blob| !blob.is_empty()) else {
        return match (method, kind.as_str(), part.as_str()) {
            ("PUT", "container", "") if containers.contains_key(container) => {
                Err(StorageError(409, "ContainerAlreadyExists", "The specified container already exists."))
            }
            ("PUT", "container", "") => {
                containers.insert(container.to_owned(), Container::new());
                Ok(Answer::status(201).header("Last-Modified", http_date(now())).header("ETag", etag()))
            }
            ("DELETE", "container", "") => {
                containers.remove(container).map(|_| Answer::status(202)).ok_or(NO_CONTAINER)
            }
            ("GET", "container", "list") => {
                containers.get(container).map(|blobs| list(container, blobs, request)).ok_or(NO_CONTAINER)
            }
            _ => Err(unsupported),
        };
    };
    let name = decoded(blob)?;
    let blobs = containers.get_mut(container).ok_or(NO_CONTAINER)?;
    match (method, part.as_str()) {
        ("PUT", "") => put_blob(blobs, name, request),
        ("PUT", "block") => put_block(blobs, name, request),
        ("PUT", "blocklist") => put_block_list(blobs, name, request),
        ("GET" | "HEAD", "") => committed(blobs, &name).and_then(|blob| get(blob, request)),
        ("DELETE", "") => {
            committed(blobs, &name)?;
            blobs.remove(&name);
            Ok(Answer::status(202))
        }
        _ => Err(unsupported),
    }
}

const NO_CONTAINER: StorageError = StorageError(404, "ContainerNotFound", "The specified container does not exist.");
const NO_LENGTH: StorageError =
    StorageError(411, "MissingContentLengthHeader", "The Content-Length header is missing.");

/// A name, decoded once.
fn decoded(path: &str) -> Result<String, StorageError> {
    let name = percent_decode(path, false);
    // The replacement for bytes that are not UTF-8.
    if name.contains(char::REPLACEMENT_CHARACTER) {
        return Err(StorageError(
            400,
            "InvalidUri",
            "The requested URI does not represent any resource on the server.",
        ));
    }
    Ok(name)
}

fn etag() -> String {
    format!("\"0x8D{:014X}\"", random::below(1 << 56))
}

fn committed<'a>(blobs: &'a Container, name: &str) -> Result<&'a Committed, StorageError> {
    let found = blobs.get(name).and_then(|blob| blob.committed.as_ref());
    found.ok_or(StorageError(404, "BlobNotFound", "The specified blob does not exist."))
}

/// Puts the content in the place of what was there, where the request allows it.
fn commit(blob: &mut Blob, request: &Request, content: Vec<u8>) -> Result<Answer, StorageError> {
    if request.header("if-none-match") == Some("*") && blob.committed.is_some() {
        return Err(StorageError(409, "BlobAlreadyExists", "The specified blob already exists."));
    }
    let content_type = request.header("x-ms-blob-content-type").unwrap_or("application/octet-stream").to_owned();
    let new = Committed { content, content_type, etag: etag(), modified: now() };
    let answer = Answer::status(201).header("ETag", &new.etag).header("Last-Modified", http_date(new.modified));
    *blob = Blob { committed: Some(new), blocks: BTreeMap::new() };
    Ok(answer.header("x-ms-request-server-encrypted", "true"))
}

fn put_blob(blobs: &mut Container, name: String, request: &Request) -> Result<Answer, StorageError> {
    request.header("content-length").ok_or(NO_LENGTH)?;
    match request.header("x-ms-blob-type") {
        Some("BlockBlob") => commit(blobs.entry(name).or_default(), request, request.body.clone()),
        Some(_) => Err(StorageError(400, "InvalidHeaderValue", "Of blobs, only block blobs are known here.")),
        None => Err(StorageError(
            400,
            "MissingRequiredHeader",
            "An HTTP header that's mandatory for this request is not specified.",
        )),
    }
}

fn put_block(blobs: &mut Container, name: String, request: &Request) -> Result<Answer, StorageError> {
    request.header("content-length").ok_or(NO_LENGTH)?;
    let id = request.query_value("blockid").unwrap_or_default();
    if id.is_empty() || STANDARD.decode(&id).is_err() {
        return Err(StorageError(
            400,
            "InvalidQueryParameterValue",
            "Value for one of the query parameters is invalid.",
        ));
    }
    let blob = blobs.entry(name).or_default();
    // All ids of a blob have the same length.
    if blob.blocks.keys().any(|other| other.len() != id.len()) {
        return Err(StorageError(400, "InvalidBlobOrBlock", "The specified blob or block content is invalid."));
    }
    blob.blocks.insert(id, request.body.clone());
    Ok(Answer::status(201).header("x-ms-request-server-encrypted", "true"))
}

fn put_block_list(blobs: &mut Container, name: String, request: &Request) -> Result<Answer, StorageError> {
    let malformed = || StorageError(400, "InvalidXmlDocument", "XML specified is not syntactically valid.");
    let document = str::from_utf8(&request.body).map_err(|_| malformed())?;
    let start = document.find("<BlockList>").ok_or_else(malformed)? + "<BlockList>".len();
    let mut rest = document[start..].trim_start();
    let blob = blobs.entry(name).or_default();
    let mut content = Vec::new();
    while !rest.starts_with("</BlockList>") {
        let (list, behind) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')).ok_or_else(malformed)?;
        let (id, behind) = behind.split_once(&format!("</{list}>")).ok_or_else(malformed)?;
        let block = blob.blocks.get(id).filter(|_| matches!(list, "Latest" | "Uncommitted"));
        content.extend(block.ok_or(StorageError(400, "InvalidBlockList", "The specified block list is invalid."))?);
        rest = behind.trim_start();
    }
    commit(blob, request, content)
}

/// The first and the last byte that are asked for; none: all of them.
fn range(request: &Request, length: usize) -> Result<Option<(usize, usize)>, StorageError> {
    let asked = request.header("x-ms-range").or_else(|| request.header("range"));
    let Some((first, last)) = asked.and_then(|asked| asked.strip_prefix("bytes=")?.split_once('-')) else {
        return Ok(None);
    };
    // Ranges from the end are unknown to Storage, and such a header is ignored, as is `5-2`.
    let Ok(first) = first.parse::<usize>() else { return Ok(None) };
    let last = last.parse().unwrap_or(usize::MAX);
    if last < first {
        return Ok(None);
    }
    if first >= length {
        return Err(StorageError(
            416,
            "InvalidRange",
            "The range specified is invalid for the current size of the resource.",
        ));
    }
    Ok(Some((first, last.min(length - 1))))
}

fn get(blob: &Committed, request: &Request) -> Result<Answer, StorageError> {
    let length = blob.content.len();
    let answer = match range(request, length)? {
        None => Answer::of(200, &blob.content_type, blob.content.clone()),
        Some((first, last)) => Answer::of(206, &blob.content_type, &blob.content[first..=last])
            .header("Content-Range", format!("bytes {first}-{last}/{length}")),
    };
    let modified = http_date(blob.modified);
    let answer = answer.header("Accept-Ranges", "bytes").header("ETag", &blob.etag).header("Last-Modified", &modified);
    let answer = answer.header("x-ms-creation-time", modified).header("x-ms-blob-type", "BlockBlob");
    Ok(answer.header("x-ms-lease-status", "unlocked").header("x-ms-lease-state", "available"))
}

fn list(container: &str, blobs: &Container, request: &Request) -> Answer {
    let of = |key: &str| request.query_value(key).unwrap_or_default();
    let (prefix, marker) = (of("prefix"), of("marker"));
    let most = of("maxresults").parse().unwrap_or(5000);
    let mut found = blobs
        .iter()
        .filter_map(|(name, blob)| Some((name, blob.committed.as_ref()?)))
        .filter(|(name, _)| name.starts_with(&prefix) && **name >= marker);
    let mut xml = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"{}\"><Blobs>",
        escaped(container)
    );
    for (name, blob) in found.by_ref().take(most) {
        let (name, modified, length) = (escaped(name), http_date(blob.modified), blob.content.len());
        let _ = write!(
            xml,
            "<Blob><Name>{name}</Name><Properties><Last-Modified>{modified}</Last-Modified><Etag>{}</Etag>\
             <Content-Length>{length}</Content-Length><Content-Type>{}</Content-Type>\
             <BlobType>BlockBlob</BlobType></Properties></Blob>",
            escaped(&blob.etag),
            escaped(&blob.content_type)
        );
    }
    let next = found.next().map_or_else(String::new, |(name, _)| escaped(name));
    let _ = write!(xml, "</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>");
    Answer::of(200, "application/xml", xml)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
