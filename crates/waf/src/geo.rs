//! Where addresses are, by a database in MaxMind's format (`SecGeoLookupDb`, `@geoLookup`, `GEO`).

use std::fmt;
use std::net::IpAddr;

use maxminddb::{MaxMindDbError, Reader, geoip2};

/// A database of addresses, whole in memory.
pub(crate) struct GeoDatabase {
    reader: Reader<Vec<u8>>,
}

impl fmt::Debug for GeoDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reader.metadata().database_type)
    }
}

/// What is known about a place: the keys of `GEO` and their values.
pub(crate) type Place = Vec<(&'static str, String)>;

impl GeoDatabase {
    /// Takes the content of a `.mmdb` file.
    ///
    /// # Errors
    /// When it is none, or broken.
    pub(crate) fn new(content: Vec<u8>) -> Result<Self, String> {
        let reader = Reader::from_source(content).map_err(|error| error.to_string())?;
        Ok(Self { reader })
    }

    /// What the database knows about the address that the value writes; `None` when it knows nothing.
    ///
    /// # Errors
    /// When the database is broken where the address leads to.
    pub(crate) fn lookup(&self, value: &[u8]) -> Result<Option<Place>, MaxMindDbError> {
        let address = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<IpAddr>().ok());
        let Some(address) = address else { return Ok(None) };
        let found = self.reader.lookup(address.to_canonical())?;
        Ok(found.decode()?.map(place))
    }
}

/// What rules see of an entry.
fn place(city: geoip2::City<'_>) -> Place {
    let text = |value: Option<&str>| value.map(str::to_owned);
    let degrees = |value: Option<f64>| value.map(|value| value.to_string());
    let region = city.subdivisions.first().and_then(|division| division.iso_code);
    let all = [
        ("COUNTRY_CODE", text(city.country.iso_code)),
        ("COUNTRY_NAME", text(city.country.names.english)),
        ("COUNTRY_CONTINENT", text(city.continent.code)),
        ("REGION", text(region)),
        ("CITY", text(city.city.names.english)),
        ("POSTAL_CODE", text(city.postal.code)),
        ("LATITUDE", degrees(city.location.latitude)),
        ("LONGITUDE", degrees(city.location.longitude)),
        ("DMA_CODE", city.location.metro_code.map(|code| code.to_string())),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}
