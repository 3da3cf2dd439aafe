//! The PROXY protocol, versions 1 and 2: who it was that a load balancer connects for, said before anything else
//! (haproxy's `doc/proxy-protocol.txt`). Sans-IO and strict: whatever that text does not allow is refused, and nothing
//! behind the header is looked at.
//!
//! Of version 2's additions (TLVs) only the checksum is read, and verified.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, line end included (§2.1).
pub const MAX_V1: usize = 107;
/// The longest header of version 2 that is taken: addresses and 4 KiB of additions, which is far more than load
/// balancers send and far less than the 64 KiB that the length field could say.
pub const MAX_V2: usize = V2_FIXED + V2_MOST;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;
const V2_MOST: usize = 4096;
/// Two paths of 108 bytes each.
const UNIX_ADDRESSES: usize = 216;
/// `PP2_TYPE_CRC32C`.
const CHECKSUM: u8 = 0x03;

/// Whom a header says the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// Nobody else, or nobody with an IP address (`LOCAL`, `UNKNOWN`, `UNSPEC`, UNIX sockets): the connection's own
    /// addresses count.
    Own,
    /// A client.
    Client {
        /// The client's address.
        source: SocketAddr,
        /// The address that it connected to.
        destination: SocketAddr,
    },
}

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// The connection begins with something else.
    Absent,
    /// It is not as its version has it, or of a version, command or family that there is not.
    Malformed,
    /// It is longer than [`MAX_V1`] or [`MAX_V2`].
    TooLong,
    /// The checksum does not fit.
    Checksum,
}

/// Reads the header at the beginning of a connection: what it says and how many bytes it has. `Ok(None)` as long as the
/// bytes end within it.
///
/// # Errors
/// [`BadHeader`], as soon as it shows.
///
/// ```
/// use portcullis_wire::proxy::{Announced, read};
///
/// let bytes = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\nGET / HTTP/1.1\r\n";
/// let (announced, length) = read(bytes).unwrap().unwrap();
/// let (source, destination) = ("203.0.113.7:4711".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
/// assert_eq!(announced, Announced::Client { source, destination });
/// assert!(bytes[length..].starts_with(b"GET / "));
/// ```
pub fn read(bytes: &[u8]) -> Result<Option<(Announced, usize)>, BadHeader> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => read_v1(bytes),
        Some(_) => read_v2(bytes),
    }
}

/// Whether the bytes begin with `mark`, as far as they go.
fn agrees(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.iter().zip(mark).all(|(byte, mark)| byte == mark)
}

// ---- version 1

fn read_v1(bytes: &[u8]) -> Result<Option<(Announced, usize)>, BadHeader> {
    if !agrees(bytes, V1_PREFIX) {
        return Err(BadHeader::Absent);
    }
    let window = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if bytes.len() < MAX_V1 { Ok(None) } else { Err(BadHeader::TooLong) };
    };
    let length = end + 2;
    if length > MAX_V1 {
        return Err(BadHeader::TooLong);
    }
    match (window.get(end), window.get(end + 1)) {
        (Some(b'\r'), None) => Ok(None),
        (Some(b'\r'), Some(b'\n')) => {
            let line = window.get(V1_PREFIX.len()..end).ok_or(BadHeader::Malformed)?;
            Ok(Some((read_line(line).ok_or(BadHeader::Malformed)?, length)))
        }
        _ => Err(BadHeader::Malformed),
    }
}

/// What stands between `PROXY ` and the line end.
fn read_line(line: &[u8]) -> Option<Announced> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        // Whatever follows is to be ignored.
        return Some(Announced::Own);
    }
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let mut word = || words.next();
    let family = word()?;
    let (source, destination) = (word()?, word()?);
    let ip = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let (source, destination) = (ip(source)?, ip(destination)?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return None;
    }
    Some(Announced::Client {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// Decimal, without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

// ---- version 2

fn read_v2(bytes: &[u8]) -> Result<Option<(Announced, usize)>, BadHeader> {
    if !agrees(bytes, V2_SIGNATURE) {
        return Err(BadHeader::Absent);
    }
    let mut fixed = bytes.iter().skip(V2_SIGNATURE.len()).copied();
    let Some(version_command) = fixed.next() else { return Ok(None) };
    let local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(BadHeader::Malformed),
    };
    let Some(family) = fixed.next() else { return Ok(None) };
    // A connection of the balancer's own has no family that counts (§2.2).
    if !local && !matches!(family, 0x00 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32) {
        return Err(BadHeader::Malformed);
    }
    let (Some(high), Some(low)) = (fixed.next(), fixed.next()) else { return Ok(None) };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if rest > V2_MOST {
        return Err(BadHeader::TooLong);
    }
    let length = V2_FIXED + rest;
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    let payload = header.get(V2_FIXED..).unwrap_or_default();
    if local || family == 0x00 {
        return Ok(Some((Announced::Own, length)));
    }
    let (announced, addresses) = read_addresses(family, payload).ok_or(BadHeader::Malformed)?;
    check_additions(header, V2_FIXED + addresses)?;
    Ok(Some((announced, length)))
}

/// The addresses, and how many bytes they take.
fn read_addresses(family: u8, payload: &[u8]) -> Option<(Announced, usize)> {
    let (source, rest, addresses): (IpAddr, _, _) = match family >> 4 {
        1 => {
            let (source, rest) = payload.split_first_chunk::<4>()?;
            let (destination, rest) = rest.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*source).into(), rest, (IpAddr::from(*destination), 12))
        }
        2 => {
            let (source, rest) = payload.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*source).into(), rest, (IpAddr::from(*destination), 36))
        }
        _ => return (payload.len() >= UNIX_ADDRESSES).then_some((Announced::Own, UNIX_ADDRESSES)),
    };
    let (destination, length) = addresses;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    let announced = Announced::Client {
        source: SocketAddr::new(source, u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(destination, u16::from_be_bytes(*destination_port)),
    };
    Some((announced, length))
}

/// Whether what follows the addresses is a row of type, length and value, and the checksum among them right.
fn check_additions(header: &[u8], mut at: usize) -> Result<(), BadHeader> {
    let mut checked = false;
    while let Some(rest) = header.get(at..).filter(|rest| !rest.is_empty()) {
        let (&[kind, high, low], rest) = rest.split_first_chunk::<3>().ok_or(BadHeader::Malformed)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(..length).ok_or(BadHeader::Malformed)?;
        at += 3;
        if kind == CHECKSUM {
            let &expected: &[u8; 4] = value.try_into().map_err(|_| BadHeader::Malformed)?;
            if std::mem::replace(&mut checked, true) {
                return Err(BadHeader::Malformed);
            }
            let bytes = header.iter().enumerate();
            let blanked =
                bytes.map(|(index, byte)| if (at..at + length).contains(&index) { 0 } else { *byte });
            if crc32c(blanked) != u32::from_be_bytes(expected) {
                return Err(BadHeader::Checksum);
            }
        }
        at += length;
    }
    Ok(())
}

/// The checksum of RFC 3720, appendix B.4. Bit by bit: headers are short, and few carry it.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(source: &str, destination: &str) -> Announced {
        Announced::Client { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    /// Version 2: the two bytes after the signature, and what follows the length.
    fn v2(kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &kind, &length, payload].concat()
    }

    const IPV4: &[u8] = &[203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 0x01, 0xbb];

    #[test]
    fn headers_that_are_read() {
        let ipv6 = [&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..]; 2].concat();
        let ipv6 = [&ipv6[..], &[0, 1, 0, 2]].concat();
        let four = client("203.0.113.7:4711", "192.0.2.1:443");
        let six = client("[2001:db8::1]:1", "[2001:db8::1]:2");
        let unix = vec![b'/'; UNIX_ADDRESSES];
        for (header, announced) in [
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n".to_vec(), four),
            (b"PROXY TCP6 2001:db8::1 2001:0db8:0:0::0:1 1 2\r\n".to_vec(), six),
            (
                b"PROXY TCP6 ::ffff:1.2.3.4 :: 0 65535\r\n".to_vec(),
                client("[::ffff:1.2.3.4]:0", "[::]:65535"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Announced::Own),
            (b"PROXY UNKNOWN ff:: ff:: 65535 65535 \x00\r\n".to_vec(), Announced::Own),
            (v2([0x21, 0x11], IPV4), four),
            (v2([0x21, 0x12], IPV4), four),
            (v2([0x21, 0x21], &ipv6), six),
            (v2([0x21, 0x22], &ipv6), six),
            (v2([0x21, 0x31], &unix), Announced::Own),
            (v2([0x21, 0x00], b""), Announced::Own),
            (v2([0x21, 0x00], b"whatever"), Announced::Own),
            (v2([0x20, 0x00], b""), Announced::Own),
            (v2([0x20, 0x11], IPV4), Announced::Own),
            (v2([0x20, 0xff], b"x"), Announced::Own),
            // AWS' endpoint id and a unique id behind the addresses.
            (v2([0x21, 0x11], &[IPV4, &[0xea, 0, 2, 1, b'v', 5, 0, 0]].concat()), four),
            (v2([0x21, 0x11], &[IPV4, &[4; 3], &[0; 0x404], &[0x20, 0, 0]].concat()), four),
        ] {
            let length = header.len();
            assert_eq!(read(&header), Ok(Some((announced, length))), "{}", header.escape_ascii());
            let more = [&header[..], b"\r\nGET"].concat();
            assert_eq!(read(&more), Ok(Some((announced, length))), "what follows is not looked at");
            for cut in 0..length {
                assert_eq!(read(&header[..cut]), Ok(None), "{}", header[..cut].escape_ascii());
            }
        }
    }

    #[test]
    fn headers_that_are_refused() {
        use BadHeader::{Absent, Checksum, Malformed, TooLong};
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat();
        assert_eq!(long.len(), MAX_V1 + 1);
        let crc = |value: &[u8]| {
            v2([0x21, 0x11], &[IPV4, &[3, 0, u8::try_from(value.len()).unwrap()], value].concat())
        };
        for (header, why) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), Absent),
            (b"\x16\x03\x01\x02\x00".to_vec(), Absent),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Absent),
            (b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), Absent),
            (b"\r\n\r\n\0\r\nQUIT\r\n".to_vec(), Absent),
            (b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), Malformed),
            (b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n".to_vec(), Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n".to_vec(), Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX".to_vec(), Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(), Malformed),
            (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), Malformed),
            (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n".to_vec(), Malformed),
            (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), Malformed),
            (b"PROXY UNKNOWNS\r\n".to_vec(), Malformed),
            (b"PROXY \r\n".to_vec(), Malformed),
            (long, TooLong),
            ([b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(), TooLong),
            (v2([0x11, 0x11], IPV4), Malformed),
            (v2([0x22, 0x11], IPV4), Malformed),
            (v2([0x21, 0x13], IPV4), Malformed),
            (v2([0x21, 0x10], IPV4), Malformed),
            (v2([0x21, 0x41], IPV4), Malformed),
            (v2([0x21, 0x11], &IPV4[..11]), Malformed),
            (v2([0x21, 0x21], IPV4), Malformed),
            (v2([0x21, 0x31], IPV4), Malformed),
            (v2([0x21, 0x11], &[IPV4, &[1, 0]].concat()), Malformed),
            (v2([0x21, 0x11], &[IPV4, &[1, 0, 2, b'h']].concat()), Malformed),
            (v2([0x21, 0x11], &vec![0; V2_MOST + 1]), TooLong),
            (v2([0x20, 0x11], &vec![0; 65_535]), TooLong),
            (crc(&[0; 4]), Checksum),
            (crc(&[0; 3]), Malformed),
        ] {
            assert_eq!(read(&header), Err(why), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn the_checksum_is_rfc_3720s() {
        // The vectors of RFC 3720, appendix B.4.
        let vectors = [
            (vec![0; 32], 0x8a91_36aa),
            (vec![0xff; 32], 0x62a8_ab43),
            ((0..32).collect(), 0x46dd_794e),
            ((0..32).rev().collect::<Vec<u8>>(), 0x113f_db5c),
        ];
        for (bytes, crc) in vectors {
            assert_eq!(crc32c(bytes.into_iter()), crc);
        }
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn any_cut_has_the_same_verdict(
            first in prop::sample::select(vec![
                b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n".to_vec(),
                v2([0x21, 0x11], &[IPV4, &[3, 0, 4, 0, 0, 0, 0]].concat()),
            ]),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = first;
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let whole = read(&bytes);
            let grown = (0..=bytes.len()).map(|length| read(&bytes[..length])).find(|verdict| *verdict != Ok(None));
            prop_assert_eq!(grown.unwrap_or(Ok(None)), whole);
        }
    }
}
