//! A peer of the bot with an address of its own: on Linux all of 127.0.0.0/8 is this machine.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, setsockopt, sockopt};

use super::SOON;

/// Connects from `source`.
pub fn connect(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(to) = to else {
        panic!("{to} is no IPv4 address")
    };
    let socket = socket::socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    socket::bind(
        socket.as_raw_fd(),
        &SockaddrIn::from(SocketAddrV4::new(source, 0)),
    )?;
    socket::connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    let tcp = TcpStream::from(socket);
    tcp.set_read_timeout(Some(SOON))?;
    tcp.set_write_timeout(Some(SOON))?;
    Ok(tcp)
}

/// An address where nobody listens, and the socket that keeps others from doing so.
pub fn nobody() -> (OwnedFd, SocketAddr) {
    let socket = socket::socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let any_port = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    socket::bind(socket.as_raw_fd(), &SockaddrIn::from(any_port)).unwrap();
    let bound: SockaddrIn = socket::getsockname(socket.as_raw_fd()).unwrap();
    (socket, SocketAddrV4::from(bound).into())
}

/// Has the connection end with a reset, in place of a goodbye, when it is dropped.
pub fn reset_when_dropped(tcp: &TcpStream) {
    setsockopt(
        tcp,
        sockopt::Linger,
        &libc::linger {
            l_onoff: 1,
            l_linger: 0,
        },
    )
    .unwrap();
}

/// Waits until the server has ended the connection, in whatever way.
pub fn wait_end(mut tcp: &TcpStream) {
    loop {
        match tcp.read(&mut [0; 4096]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!("it was not ended within {SOON:?}")
            }
            Err(_) => return,
        }
    }
}

/// Whether the server has ended the connection by now.
pub fn is_ended(tcp: &TcpStream) -> bool {
    tcp.set_nonblocking(true).unwrap();
    let read = tcp.peek(&mut [0]);
    tcp.set_nonblocking(false).unwrap();
    match read {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}
