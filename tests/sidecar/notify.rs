//! What a service manager is told over `NOTIFY_SOCKET` (`sd_notify(3)`).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::support::{PATIENCE, Scene, eventually};

/// The assignments of the next message.
fn next(manager: &UnixDatagram) -> Vec<String> {
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 4096];
    let length = manager.recv(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned).collect()
}

#[test]
fn the_manager_hears_of_start_reload_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let settings = folder.path().join("appsettings.json");
    std::fs::write(&settings, "{}").unwrap();
    let scene = Scene::new().with("contentRoot", folder.path().to_str().unwrap());
    let mut sidecar = scene.start_with(&[("NOTIFY_SOCKET", socket.to_str().unwrap())]);
    assert_eq!(next(&manager), ["READY=1", "STATUS=Serving"]);
    sidecar.get("/healthz").expect(200);

    let mut moments = Vec::new();
    for (text, status) in [("{}", "STATUS=Serving"), ("no JSON", "STATUS=Serving with the old configuration")] {
        std::fs::write(&settings, text).unwrap();
        sidecar.signal("-HUP");
        let reloading = next(&manager);
        assert_eq!(reloading[0], "RELOADING=1");
        moments.push(reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap());
        let ready = next(&manager);
        assert_eq!(ready[0], "READY=1");
        assert!(ready[1].starts_with(status), "{ready:?}");
    }
    // The manager compares them with its own clock: seconds since the machine started.
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: u64 = uptime.split('.').next().unwrap().parse().unwrap();
    assert!(moments[0] < moments[1] && (moments[1] / 1_000_000).abs_diff(seconds) < 60, "{moments:?} {uptime}");

    sidecar.signal("-TERM");
    assert_eq!(next(&manager)[0], "STOPPING=1");
    assert_eq!(sidecar.wait().code(), Some(0));
}

#[test]
fn the_socket_may_have_an_abstract_name() {
    let name = format!("entra-sidecar-test-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let sidecar = Scene::new().start_with(&[("NOTIFY_SOCKET", &format!("@{name}"))]);
    assert_eq!(next(&manager)[0], "READY=1");
    sidecar.get("/healthz").expect(200);
}

#[test]
fn a_manager_that_is_gone_is_a_warning_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("absent");
    let sidecar = Scene::new().start_with(&[("NOTIFY_SOCKET", socket.to_str().unwrap())]);
    eventually("the warning", || {
        sidecar.log().iter().any(|line| line.contains("failed to notify the service manager"))
    });
    sidecar.get("/healthz").expect(200);
}
