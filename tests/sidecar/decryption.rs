//! Where the keys of encrypted tokens come from, and when they are read (`TokenDecryptionCredentials` in
//! docs/configuration.md).

use std::path::Path;

use local_tenant::certificate::{CLIENT_1, CLIENT_2, ClientCertificate};
use local_tenant::{Action, Fault, Kind};

use super::support::{PATIENCE, Scene, Sidecar, command, eventually};

const DECRYPTION: &str = "AzureAd:TokenDecryptionCredentials:0";

/// A token of alice's for whoever has this certificate's key.
fn sealed(scene: &Scene, certificate: &ClientCertificate) -> String {
    scene.tenant.mint_user("alice").encrypted(&certificate.signing_key().public(), "any", "RSA-OAEP", "A256GCM")
}

fn opens(scene: &Scene, sidecar: &Sidecar, certificate: &ClientCertificate) -> bool {
    sidecar.get_as(&sealed(scene, certificate), "/Validate").status == 200
}

fn in_a_file(path: &Path) -> Scene {
    let scene = Scene::new().with(&format!("{DECRYPTION}:SourceType"), "Path");
    scene.with(&format!("{DECRYPTION}:CertificateDiskPath"), path.to_str().unwrap())
}

fn in_a_vault() -> Scene {
    let scene = Scene::new().with(&format!("{DECRYPTION}:SourceType"), "KeyVault");
    let url = scene.tenant.base_url().to_owned();
    scene
        .with(&format!("{DECRYPTION}:KeyVaultUrl"), &url)
        .with(&format!("{DECRYPTION}:KeyVaultCertificateName"), "client-pem")
}

fn start(scene: &Scene) -> Sidecar {
    scene.start_with(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", scene.tenant.base_url())]).with_keys()
}

#[test]
fn a_file_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decryption.pem");
    let scene = in_a_file(&path);
    let sidecar = start(&scene);
    assert!(!opens(&scene, &sidecar, &CLIENT_1), "the file is absent");
    eventually("the log says so", || {
        sidecar.log().iter().any(|line| line.contains("TokenDecryptionCredentials") && line.contains("No such file"))
    });
    for certificate in [&CLIENT_1, &CLIENT_2] {
        std::fs::write(&path, certificate.pem()).unwrap();
        assert!(opens(&scene, &sidecar, certificate));
    }
    assert!(!opens(&scene, &sidecar, &CLIENT_1), "its key is no longer there");
    std::fs::write(&path, "half").unwrap();
    assert!(opens(&scene, &sidecar, &CLIENT_2), "a broken file changes nothing");
}

#[test]
fn a_replaced_key_opens_no_token_that_it_opened_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decryption.pem");
    std::fs::write(&path, CLIENT_1.pem()).unwrap();
    let scene = in_a_file(&path);
    let sidecar = start(&scene);
    let token = sealed(&scene, &CLIENT_1);
    sidecar.get_as(&token, "/Validate").expect(200);
    std::fs::write(&path, CLIENT_2.pem()).unwrap();
    sidecar.get_as(&token, "/Validate").expect(401);
}

#[test]
fn a_reload_without_a_usable_key_keeps_the_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decryption.pem");
    std::fs::write(&path, CLIENT_1.pem()).unwrap();
    let scene = in_a_file(&path);
    let sidecar = start(&scene);
    assert!(opens(&scene, &sidecar, &CLIENT_1));
    std::fs::write(&path, "half").unwrap();
    sidecar.signal("-HUP");
    let told =
        |line: &String| line.contains("not reloaded") && line.contains("TokenDecryptionCredentials: none can be");
    eventually("the reload is refused", || sidecar.log().iter().any(told));
    assert!(opens(&scene, &sidecar, &CLIENT_1));
    std::fs::write(&path, CLIENT_2.pem()).unwrap();
    sidecar.signal("-HUP");
    eventually("a good one is taken", || sidecar.log().iter().any(|line| line.contains("configuration reloaded")));
    assert!(opens(&scene, &sidecar, &CLIENT_2));
}

#[test]
fn one_unusable_key_or_slow_vault_does_not_stop_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decryption.pem");
    std::fs::write(&path, CLIENT_1.pem()).unwrap();
    let second = "AzureAd:TokenDecryptionCredentials:1";
    let files = in_a_file(&path)
        .with(&format!("{second}:SourceType"), "Path")
        .with(&format!("{second}:CertificateDiskPath"), "/absent.pem");
    let vault = in_a_vault();
    vault.tenant.fail(Fault::always(Kind::Vault, Action::CutBeforeAnswer));
    for scene in [files, vault] {
        let sidecar = start(&scene);
        sidecar.signal("-HUP");
        eventually("it is reloaded", || sidecar.log().iter().any(|line| line.contains("configuration reloaded")));
    }
}

#[test]
fn a_vault_is_asked_with_a_managed_identity_and_not_by_requests() {
    let scene = in_a_vault();
    let sidecar = start(&scene);
    eventually("the vault's key is used", || opens(&scene, &sidecar, &CLIENT_1));
    let (vault, machine) =
        (scene.tenant.journal().count(Kind::Vault), scene.tenant.journal().count(Kind::ManagedIdentity));
    assert_eq!((vault, machine), (3, 1));
    assert!(opens(&scene, &sidecar, &CLIENT_1));
    assert_eq!(scene.tenant.journal().count(Kind::Vault), vault);
}

#[test]
fn neither_the_start_nor_a_validation_waits_for_a_vault() {
    let scene = in_a_vault();
    scene.tenant.fail(Fault::once(Kind::Vault, Action::Hold));
    let sidecar = start(&scene);
    assert!(scene.tenant.faults().wait_held(1, PATIENCE));
    sidecar.get("/healthz").expect(200);
    assert!(!opens(&scene, &sidecar, &CLIENT_1));
    sidecar.get_as(&scene.user("alice"), "/Validate").expect(200);
    scene.tenant.faults().release();
    eventually("the vault's key is used", || opens(&scene, &sidecar, &CLIENT_1));
}

#[test]
fn each_reload_ends_the_thread_of_the_one_before() {
    let scene = in_a_vault();
    let sidecar = start(&scene);
    let tasks = format!("/proc/{}/task", sidecar.pid());
    let asking = || {
        let tasks = std::fs::read_dir(&tasks).unwrap().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == "decryption-keys").count()
    };
    for times in 1..=3 {
        eventually("the vault's key is used", || opens(&scene, &sidecar, &CLIENT_1));
        sidecar.signal("-HUP");
        let done = |line: &&String| line.contains("configuration reloaded");
        eventually("it is reloaded", || sidecar.log().iter().filter(done).count() == times);
    }
    eventually("the vault's key is used", || opens(&scene, &sidecar, &CLIENT_1));
    eventually("one thread is left", || asking() == 1);
}

#[test]
fn a_check_judges_decryption_credentials_too() {
    for (file, good) in [("/absent.pem", false), ("client-1.pem", true)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        if good {
            std::fs::write(&path, CLIENT_1.pem()).unwrap();
        }
        let scene = in_a_file(&path);
        let settings = scene.settings.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]);
        let output = command().arg("check").args(settings).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(output.status.success(), good, "{text}");
        let told = if good { format!("{DECRYPTION} (Path): usable") } else { format!("{DECRYPTION} (Path): ") };
        assert!(text.contains(&told), "{text}");
    }
}
