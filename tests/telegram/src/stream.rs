//! Bytes to and from a webhook, moved as Telegram's network code moves them: in each turn it reads
//! what there is, then writes what fits, and only then asks whether the connection has ended.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::client::Error;
use crate::tls;

/// A TCP connection, with TLS or without.
pub(crate) struct Stream {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Without TLS: what is not sent yet.
    unsent: Vec<u8>,
    /// The server has closed it.
    ended: bool,
    blocks: Blocks,
}

impl Stream {
    /// Ends with the TLS handshake, if there is TLS.
    pub async fn open(
        tcp: TcpStream,
        host: &str,
        config: Option<Arc<ClientConfig>>,
    ) -> Result<Stream, Error> {
        let tls = config.map(|config| client(config, host)).transpose()?;
        let mut stream = Stream {
            tcp,
            tls,
            unsent: Vec::new(),
            ended: false,
            blocks: Blocks::default(),
        };
        let mut input = Vec::new();
        loop {
            stream.turn(&mut input)?;
            if !stream.has_unsent() && !stream.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
            {
                break;
            }
            stream.ready().await?;
        }
        Ok(stream)
    }

    /// Takes a request to be sent, or its first `limit` bytes.
    pub fn push(&mut self, head: &[u8], body: &[u8], limit: usize) {
        let mut rest = [head, body].concat();
        rest.truncate(limit);
        for length in self.blocks.split(head.len(), body.len()) {
            let after = rest.split_off(length.min(rest.len()));
            match &mut self.tls {
                // Memory is no limit, so all of it is taken.
                Some(tls) => drop(tls.writer().write_all(&rest)),
                None => self.unsent.extend_from_slice(&rest),
            }
            rest = after;
        }
    }

    /// There is something that the network has not taken yet.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// The server has closed it, and all it has sent is read.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Reads what there is, then writes what fits.
    pub fn turn(&mut self, input: &mut Vec<u8>) -> Result<(), Error> {
        while self.read(input)? {}
        self.write()?;
        self.end()
    }

    /// Reads once, and waits for nothing; whether there was something. A response is complete
    /// before the end of its connection is seen, so the next request may be written into a
    /// connection that is being closed.
    pub fn read(&mut self, input: &mut Vec<u8>) -> Result<bool, Error> {
        if self.ended {
            return Ok(false);
        }
        let result = match &mut self.tls {
            Some(tls) => read_tls(tls, &self.tcp, input)?,
            None => self.tcp.try_read_buf(input),
        };
        match result {
            Ok(length) => self.ended = length == 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(!self.ended)
    }

    /// Writes what fits. An error here is the end, whatever there may be to read.
    pub fn write(&mut self) -> Result<(), Error> {
        while self.has_unsent() {
            let result = match &mut self.tls {
                Some(tls) => tls.write_tls(&mut Wire(&self.tcp)),
                None => self
                    .tcp
                    .try_write(&self.unsent)
                    .inspect(|length| drop(self.unsent.drain(..length))),
            };
            match result {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether the connection has ended, and with an error of its socket or in silence.
    pub fn end(&self) -> Result<(), Error> {
        if self.ended {
            Err(self.tcp.take_error()?.map_or(Error::Closed, Error::from))
        } else {
            Ok(())
        }
    }

    /// Waits until there is something to read, or room for what is unsent. An error of the socket
    /// comes before what is there to read: a refusal that a reset follows at once is never read.
    pub async fn ready(&self) -> Result<(), Error> {
        let mut interest = Interest::READABLE | Interest::ERROR;
        if self.has_unsent() {
            interest |= Interest::WRITABLE;
        }
        if self.tcp.ready(interest).await?.is_error() {
            if let Some(error) = self.tcp.take_error()? {
                return Err(error.into());
            }
            // It is known now; the next turn must wait again.
            let known: io::Result<()> = self
                .tcp
                .try_io(Interest::ERROR, || Err(io::ErrorKind::WouldBlock.into()));
            drop(known);
        }
        Ok(())
    }
}

fn client(config: Arc<ClientConfig>, host: &str) -> Result<Box<ClientConnection>, Error> {
    let cannot = |error: &dyn std::fmt::Display| {
        Error::Failed(format!("Can't create an SSL connection: {error}"))
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| cannot(&error))?;
    let mut tls = ClientConnection::new(config, name).map_err(|error| cannot(&error))?;
    tls.set_buffer_limit(None);
    Ok(Box::new(tls))
}

/// One read from the network, and what it means: the outer error is TLS's, the inner one the
/// network's.
fn read_tls(
    tls: &mut ClientConnection,
    tcp: &TcpStream,
    input: &mut Vec<u8>,
) -> Result<io::Result<usize>, Error> {
    let length = match tls.read_tls(&mut Wire(tcp)) {
        Ok(length) => length,
        Err(error) => return Ok(Err(error)),
    };
    let state = tls.process_new_packets();
    if let Err(error) = state {
        // The server gets TLS's alert with the reason.
        let _ = tls.write_tls(&mut Wire(tcp));
        return Err(tls::explain(
            &error,
            tls.negotiated_cipher_suite().is_some(),
        ));
    }
    match tls.reader().read_to_end(input) {
        // The end of TLS is not the end of the connection.
        Ok(_) => Ok(Ok(length)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Ok(Ok(length))
        }
        Err(error) => Ok(Err(error)),
    }
}

/// The socket as rustls wants it.
struct Wire<'a>(&'a TcpStream);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.try_write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        // Telegram writes so many blocks at a time; between two writes the server may have closed.
        self.0.try_write_vectored(&buffers[..buffers.len().min(20)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Telegram gathers what it sends in blocks, and each block that a request touches becomes a TLS
/// record. A body that does not fit into the block of its head has its own.
#[derive(Clone, Default)]
struct Blocks {
    /// What is free in the last block.
    room: usize,
}

impl Blocks {
    /// The lengths of the records of the next request.
    fn split(&mut self, head: usize, body: usize) -> Vec<usize> {
        let mut records = Vec::new();
        // Whether what follows lies behind the last record, in the same block.
        let mut is_open = false;
        for length in [head, body] {
            if length >= 256 && length > self.room {
                records.push(length);
                (self.room, is_open) = (0, false);
                continue;
            }
            let mut left = length;
            while left > 0 {
                if self.room == 0 {
                    (self.room, is_open) = (4096, false);
                }
                let part = left.min(self.room);
                match records.last_mut() {
                    Some(last) if is_open => *last += part,
                    _ => records.push(part),
                }
                (self.room, is_open) = (self.room - part, true);
                left -= part;
            }
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_gets_a_tls_record_of_its_own() {
        let mut blocks = Blocks::default();
        assert_eq!(blocks.split(157, 200_000), [157, 200_000]);
        assert_eq!(blocks.split(157, 3939), [4096], "a block is just filled");
        assert_eq!(blocks.split(157, 3940), [157, 3940]);
        let mut blocks = Blocks::default();
        let records: Vec<_> = (0..10).map(|_| blocks.split(157, 300)).collect();
        assert_eq!(
            records[7..],
            [vec![457], vec![157, 300], vec![457]],
            "at the end of a block"
        );
        let mut blocks = Blocks::default();
        let records: Vec<_> = (0..14).map(|_| blocks.split(157, 150)).collect();
        assert_eq!(
            records[12..],
            [vec![307], vec![105, 202]],
            "over the end of a block"
        );
    }
}
