//! The PROXY protocol's header.

use crate::pieces;
use portcullis_wire::proxy::{Announced, BadHeader, MAX_V1, MAX_V2, read};
use ppp::{v1, v2};
use std::net::{IpAddr, SocketAddr};

/// A header at the beginning of a connection: pieces do not matter, nothing behind it does, `ppp` reads the same
/// addresses out of it, and addresses that are written in either version are read as they were.
pub fn header(data: &[u8]) {
    let whole = read(data);
    for round in 0..3 {
        let mut seen = 0;
        let verdicts = pieces(data, round).into_iter().map(|piece| {
            seen += piece.len();
            read(&data[..seen])
        });
        let first = verdicts.into_iter().find(|verdict| *verdict != Ok(None));
        assert_eq!(first.unwrap_or(Ok(None)), whole, "cut into pieces, the verdict is another");
    }
    if let Ok(Some((announced, length))) = whole {
        let text = data.starts_with(b"PROXY ");
        assert!(length <= if text { MAX_V1 } else { MAX_V2 });
        assert_eq!(read(&data[..length]), whole, "what follows changed the verdict");
        assert_eq!(read(&data[..length - 1]), Ok(None), "it was read before it was whole");
        let theirs = if text { text_by_ppp(&data[..length]) } else { binary_by_ppp(&data[..length]) };
        assert_eq!(announced, theirs);
    }
    written_is_read(data);
}

fn client(source: (impl Into<IpAddr>, u16), destination: (impl Into<IpAddr>, u16)) -> Announced {
    Announced::Client {
        source: SocketAddr::new(source.0.into(), source.1),
        destination: SocketAddr::new(destination.0.into(), destination.1),
    }
}

fn text_by_ppp(data: &[u8]) -> Announced {
    // It takes no bytes that are not UTF-8 where anything is to be ignored.
    if data.starts_with(b"PROXY UNKNOWN") {
        return Announced::Own;
    }
    match v1::Header::try_from(data).expect("ppp reads what we read").addresses {
        v1::Addresses::Unknown => Announced::Own,
        v1::Addresses::Tcp4(a) => {
            client((a.source_address, a.source_port), (a.destination_address, a.destination_port))
        }
        v1::Addresses::Tcp6(a) => {
            client((a.source_address, a.source_port), (a.destination_address, a.destination_port))
        }
    }
}

fn binary_by_ppp(data: &[u8]) -> Announced {
    // It judges the family of connections whose family does not count.
    if data[12] == 0x20 {
        return Announced::Own;
    }
    let header = v2::Header::try_from(data).expect("ppp reads what we read");
    match header.addresses {
        v2::Addresses::IPv4(a) => {
            client((a.source_address, a.source_port), (a.destination_address, a.destination_port))
        }
        v2::Addresses::IPv6(a) => {
            client((a.source_address, a.source_port), (a.destination_address, a.destination_port))
        }
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => Announced::Own,
    }
}

/// Two addresses out of the input, in every form.
fn written_is_read(data: &[u8]) {
    let Some((raw, rest)) = data.split_first_chunk::<36>() else { return };
    let port = |at: usize| u16::from_be_bytes([raw[at], raw[at + 1]]);
    let ip = |at: usize| -> [u8; 16] { raw[at..at + 16].try_into().unwrap() };
    let ipv4 = |at: usize| -> [u8; 4] { raw[at..at + 4].try_into().unwrap() };
    for (announced, family, kind) in [
        (client((ip(0), port(32)), (ip(16), port(34))), "TCP6", 0x21),
        (client((ipv4(0), port(32)), (ipv4(16), port(34))), "TCP4", 0x11),
    ] {
        let Announced::Client { source, destination } = announced else { return };
        let (from, to) = (source.ip(), destination.ip());
        let text = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
        assert_eq!(read(text.as_bytes()), Ok(Some((announced, text.len()))), "{text}");
        let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
        binary.extend([kind, 0, 0]);
        for address in [from, to] {
            match address {
                IpAddr::V4(ip) => binary.extend(ip.octets()),
                IpAddr::V6(ip) => binary.extend(ip.octets()),
            }
        }
        binary.extend(&raw[32..36]);
        let value = &rest[..rest.len().min(64)];
        binary.extend([0xe0, 0, u8::try_from(value.len()).unwrap()]);
        binary.extend(value);
        // A checksum behind it, blank for now.
        binary.extend([3, 0, 4, 0, 0, 0, 0]);
        let length = u16::try_from(binary.len() - 16).unwrap();
        binary[14..16].copy_from_slice(&length.to_be_bytes());
        let (end, crc) = (binary.len() - 4, crc32c(&binary));
        binary[end..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(read(&binary), Ok(Some((announced, binary.len()))));
        // An address that was changed on the way shows.
        binary[16 + usize::from(raw[0] & 7)] ^= raw[1] | 1;
        assert_eq!(read(&binary), Err(BadHeader::Checksum));
    }
}

/// By long division, as the polynomial is written (0x1EDC6F41), on bits in the order in which they are sent.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for byte in bytes {
        for bit in 0..8 {
            let next = (remainder >> 31) ^ u32::from(byte >> bit & 1);
            remainder = (remainder << 1) ^ if next == 1 { 0x1edc_6f41 } else { 0 };
        }
    }
    !remainder.reverse_bits()
}
