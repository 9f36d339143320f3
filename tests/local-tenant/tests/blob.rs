//! The storage account.

mod support;

use local_tenant::client::Response;
use local_tenant::directory::STORAGE;
use local_tenant::{LocalTenant, Options};
use support::{app_fields, call, token};

/// A tenant with the container `c`, and the value of `Authorization` for its account.
fn start() -> (LocalTenant, String) {
    let tenant = LocalTenant::start(Options::default());
    let scope = format!("{STORAGE}/.default");
    let token = token(&tenant, &app_fields(&[("scope", &scope)])).json()["access_token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    ask(&tenant, &bearer, "PUT", "?restype=container", &[], b"").expect(201);
    (tenant, bearer)
}

fn ask(tenant: &LocalTenant, bearer: &str, method: &str, rest: &str, more: &[(&str, &str)], body: &[u8]) -> Response {
    let headers = [&[("Authorization", bearer), ("x-ms-version", "2021-12-02")], more].concat();
    call(tenant, method, &format!("/blob/c{rest}"), &headers, body)
}

#[track_caller]
fn refused(response: &Response, status: u16, code: &str) {
    assert_eq!((response.status, response.header("x-ms-error-code")), (status, Some(code)));
    assert!(response.body.contains(&format!("<Error><Code>{code}</Code>")), "{}", response.body);
    assert_eq!(response.header("Content-Type"), Some("application/xml"));
}

const BLOCK_BLOB: (&str, &str) = ("x-ms-blob-type", "BlockBlob");

#[test]
fn a_blob_is_put_read_in_ranges_and_deleted() {
    let (tenant, bearer) = start();
    let ask = |method, rest, more: &[_], body| ask(&tenant, &bearer, method, rest, more, body);
    let put = ask("PUT", "/a", &[BLOCK_BLOB, ("x-ms-blob-content-type", "text/plain")], b"0123456789").expect(201);
    let whole = ask("GET", "/a", &[], b"").expect(200);
    assert_eq!((whole.body.as_str(), whole.header("Content-Type")), ("0123456789", Some("text/plain")));
    assert_eq!((whole.header("ETag"), whole.header("x-ms-blob-type")), (put.header("ETag"), Some("BlockBlob")));
    for (range, status, body, said) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=8-", 206, "89", Some("bytes 8-9/10")),
        ("bytes=0-99", 206, "0123456789", Some("bytes 0-9/10")),
        ("bytes=-2", 200, "0123456789", None),
        ("bytes=5-2", 200, "0123456789", None),
    ] {
        let part = ask("GET", "/a", &[("Range", "bytes=0-0"), ("x-ms-range", range)], b"").expect(status);
        assert_eq!((part.body.as_str(), part.header("Content-Range")), (body, said), "{range}");
    }
    refused(&ask("GET", "/a", &[("Range", "bytes=10-")], b""), 416, "InvalidRange");
    refused(&ask("PUT", "/a", &[BLOCK_BLOB, ("If-None-Match", "*")], b""), 409, "BlobAlreadyExists");
    ask("DELETE", "/a", &[], b"").expect(202);
    refused(&ask("GET", "/a", &[], b""), 404, "BlobNotFound");
}

#[test]
fn blocks_become_a_blob_in_the_order_of_their_list() {
    let (tenant, bearer) = start();
    let ask = |method, rest: &str, body: &[u8]| ask(&tenant, &bearer, method, rest, &[], body);
    for (id, block) in [("QUE=", "one"), ("QkI=", "two")] {
        ask("PUT", &format!("/a?comp=block&blockid={id}"), block.as_bytes()).expect(201);
    }
    refused(&ask("GET", "/a", b""), 404, "BlobNotFound");
    let list = |ids: &str| format!("<?xml version='1.0' encoding='utf-8'?>\n<BlockList>{ids}</BlockList>");
    let commit = |ids: &str| ask("PUT", "/a?comp=blocklist", list(ids).as_bytes());
    refused(&commit("<Latest>Q0M=</Latest>"), 400, "InvalidBlockList");
    refused(&commit("<Latest>QUE="), 400, "InvalidXmlDocument");
    commit("<Latest>QkI=</Latest><Uncommitted>QUE=</Uncommitted>").expect(201);
    assert_eq!(ask("GET", "/a", b"").expect(200).body, "twoone");
    refused(&ask("PUT", "/a?comp=block&blockid=*", b"x"), 400, "InvalidQueryParameterValue");
}

#[test]
fn a_name_is_decoded_once_and_keeps_its_slashes() {
    let (tenant, bearer) = start();
    let names = ["a//b", "/a", "a%252Fb", "%C3%BC%20x", "x/y/"];
    for name in names {
        ask(&tenant, &bearer, "PUT", &format!("/{name}"), &[BLOCK_BLOB], b"").expect(201);
    }
    let list = |query| ask(&tenant, &bearer, "GET", &format!("?restype=container&comp=list{query}"), &[], b"").body;
    let all = list("");
    for name in ["a//b", "/a", "a%2Fb", "ü x", "x/y/"] {
        assert!(all.contains(&format!("<Name>{name}</Name>")), "{all}");
    }
    assert_eq!(list("&prefix=a/").matches("<Name>").count(), 1);
    let first = list("&maxresults=2");
    assert_eq!(first.matches("<Name>").count(), 2);
    assert!(
        first.contains("<NextMarker>a//b</NextMarker>") || first.contains("<NextMarker>x/y/</NextMarker>"),
        "{first}"
    );
    refused(&ask(&tenant, &bearer, "GET", "/%FF", &[], b""), 400, "InvalidUri");
}

#[test]
fn storage_wants_a_token_of_its_own() {
    let (tenant, bearer) = start();
    let graph = token(&tenant, &app_fields(&[("scope", "https://graph.microsoft.com/.default")])).json();
    let graph = format!("Bearer {}", graph["access_token"].as_str().unwrap());
    let version = ("x-ms-version", "2021-12-02");
    for (headers, status, code) in [
        (vec![version], 401, "NoAuthenticationInformation"),
        (vec![version, ("Authorization", "SharedKey x:y")], 401, "InvalidAuthenticationInfo"),
        (vec![version, ("Authorization", &graph)], 401, "InvalidAuthenticationInfo"),
        (vec![("Authorization", &bearer)], 400, "InvalidHeaderValue"),
        (vec![version, ("Authorization", &bearer)], 404, "BlobNotFound"),
    ] {
        let response = call(&tenant, "GET", "/blob/c/x", &headers, b"");
        refused(&response, status, code);
        assert_eq!(response.header("WWW-Authenticate").is_some(), status == 401);
    }
    refused(
        &call(&tenant, "GET", "/blob/none/x", &[version, ("Authorization", &bearer)], b""),
        404,
        "ContainerNotFound",
    );
}
