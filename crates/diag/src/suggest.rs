//! "Did you mean …?"

/// The candidate most like `name`, or `None` when none is close enough to be a slip of the
/// fingers. Letter case does not count; a candidate equal to `name` but for case is returned.
///
/// Close enough means at most one wrong, missing, extra or swapped letter for every three
/// letters of the name (at least one, at most four).
///
/// ```
/// assert_eq!(portcullis_diag::suggest("upstraem", ["upstream", "route"]), Some("upstream"));
/// assert_eq!(portcullis_diag::suggest("zebra", ["upstream", "route"]), None);
/// ```
#[must_use]
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name this long is data that went astray, and the distance costs the product of lengths.
    const MAX_NAME: usize = 64;
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME {
        return None;
    }
    let name = name.to_lowercase();
    let limit = (length / 3).clamp(1, 4);
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
