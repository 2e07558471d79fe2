use super::*;
use crate::policy::family_name;
use proptest::prelude::*;

/// Parses a message that names something that a sandbox withholds.
fn parse_attempt(message: &str) -> Option<FailedAttempt> {
    parse_message(message).filter(|attempt| !attempt.is_bare())
}

/// Returns what a message tells, in words.
fn told(message: &str) -> String {
    let Some(attempt) = parse_attempt(message) else { return String::new() };
    let errno = crate::policy::errno::name(attempt.errno).unwrap();
    let paths = attempt.paths.iter().map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned());
    let address = attempt.address.map(|(address, role)| format!("{address} {role:?}"));
    let family = attempt.family.and_then(family_name).map(ToOwned::to_owned);
    let parts = attempt.call.map(ToOwned::to_owned).into_iter().chain(paths).chain(address).chain(family);
    [errno].into_iter().chain(parts).collect::<Vec<_>>().join(" ")
}

#[test]
fn message_names_error_and_path() {
    for (message, expected) in [
        (
            r#"[emerg] 7#7: open() "/var/log/nginx/x.log" failed (30: Read-only file system)"#,
            "EROFS /var/log/nginx/x.log",
        ),
        (
            r#"open() "/run/n.pid" failed (2: No such file or directory) in /etc/nginx/nginx.conf:10"#,
            "ENOENT /run/n.pid",
        ),
        ("OSError: [Errno 30] Read-only file system: '/srv/data/x y'", "EROFS /srv/data/x y"),
        ("ERROR /app/main.py: [Errno 13] Permission denied: '/home/a'", "EACCES /home/a"),
        ("OSError: [Errno 30] Read-only file system: '/a' -> '/b'", "EROFS /a /b"),
        ("mv: cannot move '/a' to '/b': Read-only file system", "EROFS /a /b"),
        ("Error: EROFS: read-only file system, open '/opt/app/cache.json'", "EROFS /opt/app/cache.json"),
        ("Error: EACCES: permission denied, mkdir '/root/.npm'", "EACCES /root/.npm"),
        ("java.io.FileNotFoundException: /var/log/app.log (Read-only file system)", "EROFS /var/log/app.log"),
        ("java.nio.file.AccessDeniedException: /home/app/x", "EACCES /home/app/x"),
        ("open /var/lib/g/db: read-only file system", "EROFS /var/lib/g/db"),
        ("Permission denied @ rb_sysopen - /srv/r/log", "EACCES /srv/r/log"),
        (
            "(13)Permission denied: AH00091: apache2: could not open error log file /var/log/apache2/error.log.",
            "EACCES /var/log/apache2/error.log",
        ),
        ("/usr/sbin/foo: cannot create /run/foo.pid: Read-only file system", "EROFS /run/foo.pid"),
        ("mkdir: cannot create directory \u{2018}/var/spool/x\u{2019}: Read-only file system", "EROFS /var/spool/x"),
        ("connect() to unix:/tmp/php.sock failed (2: No such file or directory)", "ENOENT /tmp/php.sock"),
        ("could not open file \"/dev/kvm\": Operation not permitted", "EPERM /dev/kvm"),
        ("open /srv/My Files/a.json: permission denied", "EACCES /srv/My Files/a.json"),
        ("run.sh: line 7: /var/log/run log.txt: Read-only file system", "EROFS /var/log/run log.txt"),
        ("cannot open /srv/x for writing: Read-only file system", "EROFS /srv/x"),
        ("cannot open /srv/x with a.conf: Read-only file system", "EROFS /srv/x"),
        ("AccessDeniedException: /home/app/conf dir/x.yml", "EACCES /home/app/conf dir/x.yml"),
        ("Permission denied: /home/app/x in main.c", "EACCES /home/app/x"),
        ("filesystem error: cannot create directory: Permission denied [/home/a/b c]", "EACCES /home/a/b c"),
        ("Access to the path '/home/svc/.dotnet' is denied.", "EACCES /home/svc/.dotnet"),
        ("a: /var/lib/a/db: openBinaryFile: permission denied (Read-only file system)", "EROFS /var/lib/a/db"),
        (r#"Unix.Unix_error(Unix.EROFS, "mkdir", "/var/lib/x")"#, "EROFS /var/lib/x"),
        (r#"{"could not open log","/home/app/console.log",eacces}"#, "EACCES /home/app/console.log"),
        ("no word: aerofssa EACCES_X /x", ""),
    ] {
        assert_eq!(told(message), expected, "{message}");
    }
}

#[test]
fn message_names_call_address_or_family() {
    for (message, expected) in [
        (r#"chown("/var/cache/n", 33) failed (1: Operation not permitted)"#, "EPERM chown /var/cache/n"),
        ("setgid(101) failed (1: Operation not permitted)", "EPERM setgid"),
        ("chown: changing ownership of '/x/y': Operation not permitted", "EPERM chown /x/y"),
        ("/bin/chown: changing ownership of '/x/y': Operation not permitted", "EPERM chown /x/y"),
        ("bind() to 0.0.0.0:80 failed (13: Permission denied)", "EACCES 0.0.0.0:80 Bound"),
        ("listen tcp :443: bind: permission denied", "EACCES [::]:443 Bound"),
        ("Failed to bind to address http://0.0.0.0:80/: Permission denied", "EACCES 0.0.0.0:80 Bound"),
        ("tar: x: Cannot change ownership to uid 0, gid 0: Operation not permitted", "EPERM fchownat"),
        ("Error: listen EACCES: permission denied 0.0.0.0:80", "EACCES 0.0.0.0:80 Bound"),
        ("Error: listen EACCES: permission denied :::80", "EACCES [::]:80 Bound"),
        ("(13)Permission denied: AH00072: make_sock: could not bind to address [::]:80", "EACCES [::]:80 Bound"),
        ("Bind to port 22 on 0.0.0.0 failed: Permission denied.", "EACCES 0.0.0.0:22 Bound"),
        ("dial udp 1.1.1.1:53: connect: operation not permitted", "EPERM 1.1.1.1:53 Reached"),
        ("connect to 192.0.2.7 port 5432 failed: Network is unreachable", "ENETUNREACH 192.0.2.7:5432 Reached"),
        (
            "socket() [::]:80 failed (97: Address family not supported by protocol)",
            "EAFNOSUPPORT socket [::]:80 Unknown AF_INET6",
        ),
        ("Cannot open netlink socket: Address family not supported by protocol", "EAFNOSUPPORT socket AF_NETLINK"),
        ("INFO: os::commit_memory(0x7f, 65536, 1) failed; error='Operation not permitted' (errno=1)", "EPERM mmap"),
        ("x.so: failed to map segment from shared object: Operation not permitted", "EPERM mmap"),
    ] {
        assert_eq!(told(message), expected, "{message}");
    }
}

#[test]
fn error_without_anything_named_tells_nothing() {
    for message in [
        "Permission denied",
        "Permission denied (publickey).",
        "see https://example.org/x: Permission denied",
        "relative/path: No such file or directory",
        "/var/lib/x is full",
        "/: Permission denied",
        "",
    ] {
        assert_eq!(told(message), "", "{message}");
    }
}

#[test]
fn long_message_is_cut() {
    let attempt = parse_attempt(&format!("open /x/y: permission denied {}", "\u{e9}".repeat(1 << 20))).unwrap();
    assert!(attempt.text.len() <= KEPT && attempt.text.starts_with("open /x/y"));
    let attempt = parse_attempt(&format!("{} open /x/y: permission denied", "\u{e9}".repeat(400))).unwrap();
    assert!(attempt.text.len() <= KEPT && attempt.text.ends_with("open /x/y: permission denied"));
}

proptest! {
    #[test]
    fn any_message_is_parsed(message in "(.|/| '|\"|:|->){0,60}(Permission denied|read-only file system)(.|/| '|\"|:|->){0,60}") {
        if let Some(attempt) = parse_attempt(&message) {
            prop_assert!(attempt.paths.len() <= 2 && may_tell(message.as_bytes()));
        }
    }
}
