//! Which bytes of each needle are looked for.

use crate::{Place, frequency};
use std::collections::BTreeMap;

/// Bytes of a window. Fewer deceive more often, which costs more than to look at one more.
const WIDTH: usize = 4;

/// Bytes of the windows of needles that are shorter.
const NARROW: usize = 2;

/// What one more window costs, as a share of the places of a text at which it would be found: it takes up room in a
/// bucket.
const EACH: f64 = 1e-5;

pub(crate) type Window = Vec<u8>;

/// Windows, and for each the needles that it stands for.
pub(crate) type Windows = Vec<(Window, Vec<Place>)>;

/// Windows of which each needle has one, those of four bytes and those of two. This is the greedy solution of the set
/// cover problem by Chvátal ("A greedy heuristic for the set-covering problem", 1979): the window that costs least for each
/// needle it finds, again and again. `None` where a needle is too short, or it takes more than `most` windows.
pub(crate) fn choose(needles: &[Box<[u8]>], most: usize) -> Option<[Windows; 2]> {
    let mut all: BTreeMap<Window, Vec<Place>> = BTreeMap::new();
    for (number, needle) in needles.iter().enumerate() {
        let width = if needle.len() < WIDTH { NARROW } else { WIDTH };
        for (offset, window) in needle.windows(width).enumerate() {
            let found = all.entry(window.to_vec()).or_default();
            if found.last().is_none_or(|place| place.needle != number) {
                found.push(Place { needle: number, offset });
            }
        }
    }
    let costs: Vec<f64> = all.keys().map(|window| frequency(window) + EACH).collect();
    let mut is_open = vec![true; needles.len()];
    let mut chosen = [Vec::new(), Vec::new()];
    while is_open.contains(&true) {
        if chosen.iter().any(|windows| windows.len() > most) {
            return None;
        }
        let open = |place: &&Place| is_open.get(place.needle).copied().unwrap_or(false);
        let mut best: Option<(f64, &Window, &Vec<Place>)> = None;
        for ((window, places), cost) in all.iter().zip(&costs) {
            let count = places.iter().filter(open).count();
            let each = cost / count as f64;
            if count > 0 && best.is_none_or(|(least, ..)| each < least) {
                best = Some((each, window, places));
            }
        }
        // Where none is left, a needle is too short.
        let (_, window, places) = best?;
        let places: Vec<Place> = places.iter().filter(open).copied().collect();
        for place in &places {
            if let Some(is_open) = is_open.get_mut(place.needle) {
                *is_open = false;
            }
        }
        let [long, short] = &mut chosen;
        if window.len() == WIDTH { long } else { short }.push((window.clone(), places));
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_and_shared_windows_are_chosen() {
        let needles = ["mysql error", "sqlstate[", "<%", "unclosed sql string", "in the zzz"];
        let needles = needles.map(|needle| Box::from(needle.as_bytes()));
        let [long, short] = choose(&needles, 9).unwrap();
        let texts = |windows: &[(Window, Vec<Place>)]| -> Vec<String> {
            windows.iter().map(|(window, _)| String::from_utf8(window.clone()).unwrap()).collect()
        };
        assert_eq!(
            (texts(&long), texts(&short)),
            (vec!["sql ".into(), " zzz".into(), "sqls".into()], vec!["<%".into()])
        );
        let places: Vec<usize> = long[0].1.iter().map(|place| place.offset).collect();
        assert_eq!(places, [2, 9]);
    }
}
