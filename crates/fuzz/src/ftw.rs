//! Files of go-ftw tests.

use portcullis_ftw::Request;

/// A file of tests, and a request as it lies on the wire: read or refused.
pub fn yaml(data: &[u8]) {
    let _ = Request::from_wire(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(file) = portcullis_ftw::parse(text) else { return };
    for stage in file.tests.iter().flat_map(|test| &test.stages) {
        let _ = (stage.input.request(), stage.input.wire());
        let _ = stage.output.log.unmet("[id \"1\"] message");
    }
}
