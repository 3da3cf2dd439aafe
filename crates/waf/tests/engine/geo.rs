//! `@geoLookup` with MaxMind's own test data.

use portcullis_waf::OverlaySettings;

use crate::common::{get, program, send, try_program, verdict};

const DATABASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/GeoLite2-City-Test.mmdb");

fn ask(rules: &str, query: &str) -> String {
    let program = program(rules);
    let (report, interruption) = send(&program, &OverlaySettings::default(), &get(query), 7);
    verdict(&report, interruption.as_ref())
}

/// Networks and places as in the sources of the test data.
#[test]
fn places() {
    let all = "%{geo.country_code} %{geo.country_name} %{geo.country_continent} %{geo.region} %{geo.city} \
               %{geo.postal_code} %{geo.latitude} %{geo.longitude} %{geo.dma_code}";
    let rules =
        format!("SecGeoLookupDb {DATABASE}\nSecRule ARGS:a \"@geoLookup\" \"id:1,pass,logdata:'{all}'\"");
    for (address, place) in [
        ("216.160.83.56", "1=US United States NA WA Milton 98354 47.2513 -122.3149 819"),
        ("2001:218::1", "1=JP Japan AS    35.68536 139.75309 "),
        ("2.125.160.216", "1=GB United Kingdom EU ENG Boxford OX1 51.75 -1.25 "),
        ("::ffff:216.160.83.56", "1=US United States NA WA Milton 98354 47.2513 -122.3149 819"),
        ("10.0.0.1", ""),
        ("nowhere", ""),
    ] {
        assert_eq!(ask(&rules, &format!("/?a={address}")), place, "{address}");
    }
}

/// The way of CRS 3's rule 910100.
#[test]
fn a_chain_over_the_country() {
    let rules = format!(
        r#"
        SecGeoLookupDb {DATABASE}
        SecRule ARGS:a "@geoLookup" "id:1,deny,chain"
            SecRule GEO:COUNTRY_CODE "@within UA ID GB CN" ""
        SecRule &GEO "@eq 0" "id:2,pass"
        SecRule GEO:/NAME$/ "@rx ." "id:3,pass,logdata:'%{{MATCHED_VAR_NAME}}'"
    "#
    );
    assert_eq!(ask(&rules, "/?a=81.2.69.142"), "1 deny 403@2");
    assert_eq!(ask(&rules, "/?a=89.160.20.112"), "3=GEO:COUNTRY_NAME");
    assert_eq!(ask(&rules, "/?a=10.0.0.1"), "2");
}

#[test]
fn databases_that_are_none() {
    let rule = r#"SecRule REMOTE_ADDR "@geoLookup" "id:1""#;
    let (_, warnings) = try_program(rule).unwrap();
    let said: Vec<_> = warnings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(said, ["`@geoLookup` never matches without SecGeoLookupDb"]);
    for (file, reason) in [
        ("/nowhere/GeoLite2.mmdb", "cannot be read"),
        (concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "is no database of addresses"),
    ] {
        let refused = try_program(&format!("SecGeoLookupDb {file}\n{rule}")).unwrap_err();
        assert!(refused.contains("error[SEC0115]") && refused.contains(reason), "{refused}");
    }
}
