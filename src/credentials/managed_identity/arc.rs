//! Azure Arc issues a token only to clients that can read a key file, named in a challenge. A fake
//! endpoint could name any file, so the path must match the agent's folder exactly.
//! <https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication>

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::file;
use crate::outbound::{OutResponse, challenge};

pub const KEY_FOLDER: &str = "/var/opt/azcmagent/tokens";

/// Bytes.
const MAX_KEY: u64 = 4096;

/// The file that a 401 names.
pub fn key_path(answer: &OutResponse, folder: &Path) -> Result<PathBuf, String> {
    let challenges = challenge::of(answer);
    let [challenge] = &challenges[..] else {
        return Err("the 401 does not contain exactly one challenge".into());
    };
    let realm = match &challenge.parameters[..] {
        [(name, realm)] if name == "realm" && challenge.scheme.eq_ignore_ascii_case("Basic") => realm,
        _ => return Err("the challenge is not of the form Basic realm=FILE".into()),
    };
    let path = Path::new(realm);
    let expected = path.file_name().filter(|name| {
        let name = name.as_encoded_bytes();
        name.len() > ".key".len()
            && name.ends_with(b".key")
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte))
    });
    // Compares the text, not the components, so that other spellings such as `tokens//a.key` and
    // `tokens/./a.key` fail.
    match expected.map(|name| folder.join(name)) {
        Some(expected) if expected.as_os_str() == path.as_os_str() => Ok(expected),
        _ => Err(format!("the challenge names a file other than {}/NAME.key", folder.display())),
    }
}

/// `Basic` and the file's content as it is, without base64.
pub fn authorization(path: &Path) -> Result<Zeroizing<String>, String> {
    let refused = |reason: &str| format!("{}: {reason}", path.display());
    let key = file::read(path, MAX_KEY).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => {
            refused(&format!("{error}; the program must run as root or in the group himds"))
        }
        _ => refused(&error.to_string()),
    })?;
    let text = std::str::from_utf8(key.trim_ascii_end()).unwrap_or_default();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Err(refused("expected a key in printable ASCII"));
    }
    Ok(Zeroizing::new(format!("Basic {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::HeaderFields;

    fn named(field: &str) -> Result<PathBuf, String> {
        let headers = HeaderFields::from([("www-authenticate", field)]);
        key_path(&OutResponse { status: 401, headers, body: Vec::new() }, Path::new(KEY_FOLDER))
    }

    #[test]
    fn the_key_lies_in_the_agents_folder() {
        let path = PathBuf::from("/var/opt/azcmagent/tokens/1f-2.key");
        assert_eq!(named("Basic realm=/var/opt/azcmagent/tokens/1f-2.key"), Ok(path.clone()));
        assert_eq!(named("basic realm=\"/var/opt/azcmagent/tokens/1f-2.key\""), Ok(path));
    }

    #[test]
    fn no_other_file_is_read() {
        for field in [
            "Basic realm=/etc/shadow",
            "Basic realm=/etc/shadow.key",
            "Basic realm=/var/opt/azcmagent/tokens/../../../../etc/shadow.key",
            "Basic realm=/var/opt/azcmagent/tokens/a/b.key",
            "Basic realm=/var/opt/azcmagent/tokens//b.key",
            "Basic realm=/var/opt/azcmagent/tokens/./b.key",
            "Basic realm=/var/opt/azcmagent/tokens/b.key/",
            "Basic realm=/var/opt/azcmagent/tokens/b.key.txt",
            "Basic realm=/var/opt/azcmagent/tokens/.key",
            "Basic realm=/var/opt/azcmagent/tokens/b.KEY",
            "Basic realm=/var/opt/azcmagent/tokens/b=c.key",
            "Basic realm=var/opt/azcmagent/tokens/b.key",
            "Basic realm=b.key",
            "Basic realm=",
            "Basic",
            "Bearer realm=/var/opt/azcmagent/tokens/b.key",
            "Basic realm=/var/opt/azcmagent/tokens/b.key, charset=utf-8",
            "Basic realm=/var/opt/azcmagent/tokens/b.key, Basic realm=/etc/shadow",
            "",
        ] {
            assert!(named(field).is_err(), "{field}");
        }
    }

    #[test]
    fn a_key_is_at_most_4096_printable_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        for (content, good) in [
            (vec![b'k'; 4095], true),
            (vec![b'k'; 4096], true),
            (vec![b'k'; 4097], false),
            (b"key\n".to_vec(), true),
            (b"k\ney".to_vec(), false),
            (b"\xff".to_vec(), false),
            (Vec::new(), false),
        ] {
            std::fs::write(&path, &content).unwrap();
            assert_eq!(authorization(&path).is_ok(), good, "{} bytes", content.len());
        }
        std::fs::write(&path, "raw=key\n").unwrap();
        assert_eq!(*authorization(&path).unwrap(), "Basic raw=key");
        assert!(authorization(folder.path()).unwrap_err().contains("not a file"));
        assert!(authorization(&folder.path().join("b.key")).unwrap_err().contains("himds"));
    }
}
