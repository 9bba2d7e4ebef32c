//! Control sockets with real sockets, folders and, where the tests run as root, real foreign users.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

/// For what must happen; a test that waits for it to end has failed.
const AMPLE: Duration = Duration::from_secs(20);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The file names in a folder.
fn names(dir: &Path) -> Vec<OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

async fn accept(listener: &ControlListener) -> ControlStream {
    match timeout(AMPLE, listener.accept()).await.unwrap().unwrap() {
        Accepted::Stream(stream) => stream,
        Accepted::Refused(peer) => panic!("refused {peer:?}"),
    }
}

/// A connection that carries bytes both ways.
async fn works(listener: &ControlListener, path: &Path) {
    let (client, mut server) = tokio::join!(connect(path), accept(listener));
    let mut client = client.unwrap();
    assert_eq!(client.peer().pid, Some(std::process::id()));
    assert_eq!(server.peer().uid, rustix::process::geteuid().as_raw());
    client.write_all(b"ask").await.unwrap();
    let mut asked = [0; 3];
    server.read_exact(&mut asked).await.unwrap();
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!((&asked, answer.as_str()), (b"ask", "answer"));
}

/// What a crash leaves: a name nobody listens on.
fn leave_stale(path: &Path) {
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    assert!(fs::metadata(path).unwrap().file_type().is_socket());
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_its_listener() {
    let dir = folder();
    let path = dir.path().join("a/b/shop.sock");
    let listener = ControlListener::bind(&path).unwrap();
    assert_eq!(listener.path(), path);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()) & 0o022, 0, "others could replace the socket");
    works(&listener, &path).await;
    assert_eq!(names(path.parent().unwrap()), ["shop.sock"]);
    drop(listener);
    assert!(names(path.parent().unwrap()).is_empty());
}

#[tokio::test]
async fn nobody_listens_is_not_running() {
    let dir = folder();
    let missing = dir.path().join("missing.sock");
    let stale = dir.path().join("stale.sock");
    leave_stale(&stale);
    fs::write(dir.path().join("file"), "").unwrap();
    let long = dir.path().join("x".repeat(200)).join("shop.sock");
    for path in [missing, stale, dir.path().join("file"), dir.path().join("file/shop.sock"), long] {
        let error = connect(&path).await.unwrap_err();
        assert!(matches!(error, ControlConnectError::NotRunning { .. }), "{path:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let dir = folder();
    let path = dir.path().join("shop.sock");
    leave_stale(&path);
    let listener = ControlListener::bind(&path).unwrap();
    works(&listener, &path).await;
    assert_eq!(names(dir.path()), ["shop.sock"]);
}

#[tokio::test]
async fn a_live_socket_is_in_use_and_stays() {
    let dir = folder();
    let path = dir.path().join("shop.sock");
    let first = ControlListener::bind(&path).unwrap();
    let error = ControlListener::bind(&path).unwrap_err();
    let ControlBindError::InUse { pid, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert_eq!(
        error.to_string(),
        format!("another host (pid {}) answers on the control socket {}", std::process::id(), path.display())
    );
    // The second one's look is a connection of its own.
    drop(accept(&first).await);
    works(&first, &path).await;
    assert_eq!(names(dir.path()), ["shop.sock"]);
}

#[tokio::test]
async fn a_busy_socket_is_in_use_too() {
    let dir = folder();
    let path = dir.path().join("shop.sock");
    let _first = ControlListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        let socket = std::os::unix::net::UnixStream::connect(&path).unwrap();
        waiting.push(socket);
        if waiting.len() > usize::try_from(BACKLOG).unwrap() {
            break ControlListener::bind(&path).unwrap_err();
        }
    };
    assert!(matches!(error, ControlBindError::InUse { pid: None, .. }), "{error:?}");
}

#[tokio::test]
async fn of_two_hosts_over_one_stale_socket_one_wins() {
    let dir = folder();
    for round in 0..50 {
        let path = dir.path().join(format!("{round}.sock"));
        leave_stale(&path);
        let runtime = tokio::runtime::Handle::current();
        let start = std::sync::Barrier::new(2);
        let bind = || {
            let _entered = runtime.enter();
            start.wait();
            ControlListener::bind(&path)
        };
        let (a, b) = std::thread::scope(|scope| {
            let (a, b) = (scope.spawn(bind), scope.spawn(bind));
            (a.join().unwrap(), b.join().unwrap())
        });
        let (Ok(winner), Err(error)) = (if a.is_ok() { (a, b) } else { (b, a) }) else {
            panic!("round {round}: both or none won")
        };
        assert!(matches!(error, ControlBindError::InUse { .. }), "round {round}: {error:?}");
        // The name is the winner's: what connects to it is accepted there.
        let client = connect(&path).await.unwrap();
        let accepted = async {
            loop {
                let mut stream = accept(&winner).await;
                let mut byte = [0];
                if stream.read(&mut byte).await.unwrap() == 1 {
                    break;
                }
            }
        };
        let write = async {
            let mut client = client;
            client.write_all(b"x").await.unwrap();
        };
        timeout(AMPLE, async { tokio::join!(accepted, write) }).await.unwrap();
    }
    assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
}

#[tokio::test]
async fn what_is_no_socket_is_not_removed() {
    let dir = folder();
    let path = dir.path().join("shop.sock");
    fs::write(&path, "precious").unwrap();
    let error = ControlListener::bind(&path).unwrap_err();
    assert!(matches!(error, ControlBindError::NotASocket { .. }), "{error:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert_eq!(names(dir.path()), ["shop.sock"]);
    // A link to a socket is not followed either: replacing it would be somebody else's surprise.
    let link = dir.path().join("link.sock");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(ControlListener::bind(&link), Err(ControlBindError::NotASocket { .. })));
}

#[tokio::test]
async fn a_path_longer_than_an_address_works() {
    let dir = folder();
    let path = dir.path().join("d".repeat(150)).join("shop.sock");
    assert!(path.as_os_str().len() > MAX_SUN_PATH_BYTES);
    fs::create_dir(path.parent().unwrap()).unwrap();
    // Stale, then live, then gone: the whole course through /proc.
    let near = dir.path().join("near.sock");
    leave_stale(&near);
    fs::rename(&near, &path).unwrap();
    let listener = ControlListener::bind(&path).unwrap();
    works(&listener, &path).await;
    let error = ControlListener::bind(&path).unwrap_err();
    assert!(matches!(error, ControlBindError::InUse { .. }), "{error:?}");
    drop(listener);
    assert!(names(path.parent().unwrap()).is_empty());
}

#[tokio::test]
async fn a_name_longer_than_an_address_is_an_error() {
    let dir = folder();
    let longest = dir.path().join("n".repeat(MAX_NAME_BYTES));
    works(&ControlListener::bind(&longest).unwrap(), &longest).await;
    let path = dir.path().join("n".repeat(MAX_NAME_BYTES + 1));
    let error = ControlListener::bind(&path).unwrap_err();
    assert!(matches!(error, ControlBindError::NameTooLong { .. }), "{error:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_told() {
    let dir = folder();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = ControlListener::bind(&dir.path().join("file/shop.sock")).unwrap_err();
    let ControlBindError::Folder { path, .. } = &error else { panic!("{error:?}") };
    assert_eq!(path, &dir.path().join("file"));
}

#[tokio::test]
async fn a_name_taken_over_by_another_stays() {
    let dir = folder();
    let path = dir.path().join("shop.sock");
    let first = ControlListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = ControlListener::bind(&path).unwrap();
    drop(first);
    works(&second, &path).await;
}

/// Not a test of its own: what [`foreigners_are_refused`] runs as another user.
#[tokio::test]
#[ignore = "run by foreigners_are_refused"]
async fn as_foreigner() {
    let Some(path) = std::env::var_os("CONTROL_SOCKET_OF_THE_TEST") else { return };
    let said = match connect(Path::new(&path)).await {
        Ok(mut stream) => {
            let mut byte = [0];
            format!("read {:?}", timeout(AMPLE, stream.read(&mut byte)).await.unwrap().ok())
        }
        Err(ControlConnectError::NotPermitted { .. }) => "not permitted".to_owned(),
        Err(ControlConnectError::NotTrusted { uid, .. }) => format!("not trusted {uid}"),
        Err(error) => format!("{error:?}"),
    };
    println!("said: {said}.");
}

/// Runs [`as_foreigner`] as `uid` and gives what it said.
async fn foreigner(uid: u32, path: &Path) -> String {
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={uid}"), format!("--regid={uid}")])
        .args(["--clear-groups", "--inh-caps=-all", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "control::body::tests::as_foreigner", "--ignored", "--nocapture"])
        .env("CONTROL_SOCKET_OF_THE_TEST", path);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let said = text.split("said: ").nth(1).unwrap_or_else(|| panic!("it said nothing: {text}"));
    said.split('.').next().unwrap().to_owned()
}

#[tokio::test]
async fn foreigners_are_refused() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let dir = folder();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("shop.sock");
    let listener = ControlListener::bind(&path).unwrap();

    // The mode alone keeps them out ...
    assert_eq!(foreigner(NOBODY, &path).await, "not permitted");
    assert_eq!(listener.refused(), 0);

    // ... and so do the credentials, should somebody open the mode.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let (said, accepted) = tokio::join!(foreigner(NOBODY, &path), timeout(AMPLE, listener.accept()));
    assert_eq!(said, "read Some(0)", "the connection is closed without a word");
    let Accepted::Refused(peer) = accepted.unwrap().unwrap() else { panic!("a foreigner was let in") };
    assert_eq!((peer.uid, listener.refused()), (NOBODY, 1));
    works(&listener, &path).await;
}

#[tokio::test]
async fn a_foreign_host_is_not_trusted() {
    const SOMEBODY: u32 = 12_345;
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let dir = folder();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = dir.path().join("trap.sock");
    let mut trap = Command::new("setpriv")
        .args([format!("--reuid={SOMEBODY}"), format!("--regid={SOMEBODY}")])
        .args(["--clear-groups", "--inh-caps=-all", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "control::body::tests::as_foreign_host", "--ignored", "--nocapture"])
        .env("CONTROL_SOCKET_OF_THE_TEST", &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let limit = std::time::Instant::now() + AMPLE;
    while fs::metadata(&path).map(|meta| meta.mode() & 0o777).ok() != Some(0o666) {
        assert!(std::time::Instant::now() < limit, "the other host did not come up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let said = foreigner(NOBODY, &path).await;
    // Root, who addresses it on purpose, may.
    let root = connect(&path).await.map(|stream| stream.peer().uid);
    trap.kill().unwrap();
    trap.wait().unwrap();
    assert_eq!(said, format!("not trusted {SOMEBODY}"));
    assert_eq!(root.unwrap(), SOMEBODY);
}

/// Not a test of its own: what [`a_foreign_host_is_not_trusted`] runs as another user, until it is killed.
#[tokio::test]
#[ignore = "run by a_foreign_host_is_not_trusted"]
async fn as_foreign_host() {
    let Some(path) = std::env::var_os("CONTROL_SOCKET_OF_THE_TEST") else { return };
    let _listener = ControlListener::bind(Path::new(&path)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    tokio::time::sleep(AMPLE * 2).await;
}
