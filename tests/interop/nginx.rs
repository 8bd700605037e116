//! Debian's nginx in front of a registry, as companies put it there: it speaks TLS, lets in nobody without a certificate
//! of its authority, and asks for a name and a password.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command};

use tempfile::TempDir;

use crate::authority::Authority;

pub(crate) struct Nginx {
    process: Child,
    address: String,
    _folder: TempDir,
}

impl Nginx {
    /// Starts one in front of `registry`, with a certificate of the authority, for its clients and for this user only: a
    /// line of an htpasswd file.
    ///
    /// nginx cannot be asked which port it got. It is given a socket that listens already instead, in the way in which a
    /// running nginx hands its sockets to its successor: the variable names the descriptor, the configuration the
    /// address. So the port is never free for others, and whoever connects too early waits in the socket's queue.
    pub(crate) fn start(registry: &str, authority: &Authority, user: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = authority.server();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        // nginx does so with sockets that it opens itself, and counts on it with those that it inherits.
        listener.set_nonblocking(true).expect("a socket that does not block");
        let address = listener.local_addr().expect("an address").to_string();
        for (name, content) in [
            ("nginx.conf", configuration(&address, registry).as_str()),
            ("authority.pem", &authority.pem),
            ("server.pem", &server.certificate),
            ("server.key", &server.key),
            ("htpasswd", user),
        ] {
            std::fs::write(folder.path().join(name), content).expect("a file is written");
        }
        let process = nginx(folder.path())
            .env("NGINX", "0;")
            .stdin(OwnedFd::from(listener))
            .spawn()
            .expect("nginx starts");
        Self { process, address, _folder: folder }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Ends it: from now on connections are refused.
    pub(crate) fn stop(&mut self) {
        // Asked to, it ends its worker too, which would go on alone if it were killed.
        let process = rustix::process::Pid::from_child(&self.process);
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
            let _ = self.process.wait();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What keeps it from starting it says on standard error, and all else in its log.
fn nginx(folder: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "error.log"]);
    command
}

/// It writes to its own folder only. The headers are what docker-registry needs to send its clients to addresses of nginx
/// instead of its own.
fn configuration(address: &str, registry: &str) -> String {
    // As root it would let its worker be somebody else, who may not read the folder; as anybody else it has no choice.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "{user}daemon off;
worker_processes 1;
pid nginx.pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    server {{
        listen {address} ssl;
        server_name localhost 127.0.0.1;
        ssl_certificate server.pem;
        ssl_certificate_key server.key;
        ssl_client_certificate authority.pem;
        ssl_verify_client on;
        client_max_body_size 0;
        location /v2/ {{
            auth_basic 'interop';
            auth_basic_user_file htpasswd;
            proxy_pass http://{registry};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Authorization '';
        }}
    }}
}}
"
    )
}
