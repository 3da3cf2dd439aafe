//! Persistent collections: variables that outlive a transaction, such as counters per address.
//!
//! They live in this process's memory, shared by all routes and kept over reloads; a restart forgets them. How many
//! there are is bounded: when none can be dropped for its age, no new one is opened, so that clients cannot take memory
//! by inventing keys.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::operator::atoi;
use crate::variable::Var;

/// Most collections at a time.
const RECORDS: usize = 100_000;
/// Most variables of a collection.
const VARIABLES: usize = 64;
/// Most bytes of a key, a name or a value.
const BYTES: usize = 1024;
/// How often the aged are looked for when there is no room.
const PURGE: Duration = Duration::from_secs(1);

struct Variable {
    name: Box<[u8]>,
    value: Box<[u8]>,
    expires: Option<Instant>,
    /// Since when it has its value, as far as `deprecatevar` counts.
    since: Instant,
}

struct Record {
    variables: Vec<Variable>,
    expires: Instant,
}

struct Store {
    records: HashMap<(Var, Box<[u8]>), Record>,
    purged: Instant,
}

static STORE: LazyLock<Mutex<Store>> =
    LazyLock::new(|| Mutex::new(Store { records: HashMap::new(), purged: Instant::now() }));

/// Runs with the whole store; nothing in here waits.
fn with<R>(run: impl FnOnce(&mut Store, Instant) -> R) -> R {
    run(&mut STORE.lock().unwrap_or_else(PoisonError::into_inner), Instant::now())
}

impl Store {
    fn record(&mut self, var: Var, key: &[u8], now: Instant) -> Option<&mut Record> {
        let record = self.records.get_mut(&(var, Box::from(key)))?;
        if record.expires <= now {
            record.variables.clear();
        }
        record.variables.retain(|variable| variable.expires.is_none_or(|expires| expires > now));
        Some(record)
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.records.len() >= RECORDS && now.duration_since(self.purged) >= PURGE {
            self.purged = now;
            self.records.retain(|_, record| record.expires > now);
        }
        self.records.len() < RECORDS
    }
}

/// A name and its value.
pub(super) type Pair = (Box<[u8]>, Box<[u8]>);

/// The variables of a collection.
pub(super) fn read(var: Var, key: &[u8]) -> Vec<Pair> {
    with(|store, now| store.read(var, key, now))
}

/// Changes a variable in one step; `change` gets its value and says the new one, `None` removes it. `timeout` is how long
/// the collection is kept after that. `false`: the new value could not be kept, because of its size or because there is
/// no room.
pub(super) fn update(
    var: Var,
    key: &[u8],
    name: &[u8],
    timeout: Duration,
    change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> bool {
    with(|store, now| store.update(var, key, name, (now, timeout), change))
}

/// Lets a variable expire after a time.
pub(super) fn expire(var: Var, key: &[u8], name: &[u8], after: Duration) {
    with(|store, now| store.expire(var, key, name, now, after));
}

impl Store {
    fn read(&mut self, var: Var, key: &[u8], now: Instant) -> Vec<Pair> {
        let variables =
            self.record(var, key, now).map(|record| record.variables.as_slice()).unwrap_or_default();
        variables.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect()
    }

    fn update(
        &mut self,
        var: Var,
        key: &[u8],
        name: &[u8],
        (now, timeout): (Instant, Duration),
        change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> bool {
        if key.len() > BYTES || name.len() > BYTES {
            return false;
        }
        if self.record(var, key, now).is_none() {
            if !self.make_room(now) {
                return false;
            }
            let record = Record { variables: Vec::new(), expires: now };
            self.records.insert((var, Box::from(key)), record);
        }
        let Some(record) = self.record(var, key, now) else { return false };
        record.expires = now + timeout;
        let known = record.variables.iter().position(|variable| *variable.name == *name);
        let current = known.and_then(|at| record.variables.get(at)).map(|variable| &*variable.value);
        match (change(current.unwrap_or_default()), known) {
            (None, Some(at)) => {
                record.variables.remove(at);
            }
            (None, None) => {}
            (Some(value), _) if value.len() > BYTES => return false,
            (Some(value), Some(at)) => {
                if let Some(variable) = record.variables.get_mut(at) {
                    variable.value = value.into();
                    variable.since = now;
                }
            }
            (Some(value), None) if record.variables.len() < VARIABLES => {
                record.variables.push(Variable {
                    name: name.into(),
                    value: value.into(),
                    expires: None,
                    since: now,
                });
            }
            (Some(_), None) => return false,
        }
        true
    }

    fn expire(&mut self, var: Var, key: &[u8], name: &[u8], now: Instant, after: Duration) {
        let record = self.record(var, key, now);
        let variables = record.map(|record| record.variables.as_mut_slice()).unwrap_or_default();
        if let Some(variable) = variables.iter_mut().find(|variable| *variable.name == *name) {
            variable.expires = Some(now + after);
        }
    }
}

/// Lowers a variable by `amount` for each `period` that has gone by since its last change, to 0 at last.
pub(super) fn decay(var: Var, key: &[u8], name: &[u8], amount: i64, period: Duration) {
    with(|store, now| {
        let record = store.record(var, key, now);
        let variables = record.map(|record| record.variables.as_mut_slice()).unwrap_or_default();
        let Some(variable) = variables.iter_mut().find(|variable| *variable.name == *name) else { return };
        let gone_by = now.duration_since(variable.since).as_secs();
        let Some(times) = gone_by.checked_div(period.as_secs()).filter(|times| *times > 0) else { return };
        let less = amount.saturating_mul(i64::try_from(times).unwrap_or(i64::MAX));
        let value = atoi(&variable.value).saturating_sub(less).max(0);
        variable.value = value.to_string().into_bytes().into();
        // What remains of a period counts towards the next time.
        variable.since = now - Duration::from_secs(gone_by % period.as_secs());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_last_until_they_expire() {
        let hour = Duration::from_secs(3600);
        update(Var::Ip, b"store-1", b"a", hour, |_| Some(b"1".to_vec()));
        update(Var::Ip, b"store-1", b"a", hour, |old| Some([old, b"2"].concat()));
        update(Var::Ip, b"store-1", b"b", hour, |_| Some(b"x".to_vec()));
        assert_eq!(read(Var::Ip, b"store-1")[0], (b"a"[..].into(), b"12"[..].into()));
        assert!(read(Var::Session, b"store-1").is_empty() && read(Var::Ip, b"store-2").is_empty());
        expire(Var::Ip, b"store-1", b"a", Duration::ZERO);
        assert_eq!(read(Var::Ip, b"store-1").len(), 1);
        update(Var::Ip, b"store-1", b"b", hour, |_| None);
        assert!(read(Var::Ip, b"store-1").is_empty());
        update(Var::Ip, b"store-1", b"c", Duration::ZERO, |_| Some(b"gone".to_vec()));
        assert!(read(Var::Ip, b"store-1").is_empty());
    }

    fn empty() -> (Store, Instant) {
        let start = Instant::now();
        (Store { records: HashMap::new(), purged: start }, start)
    }

    fn names(store: &mut Store, now: Instant) -> String {
        let pairs = store.read(Var::Ip, b"k", now);
        let shown =
            pairs.iter().map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()));
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn time_passes() {
        let (mut store, start) = empty();
        let at = |seconds| start + Duration::from_secs(seconds);
        let set = |store: &mut Store, name: &[u8], value: &[u8], now| {
            let value = value.to_vec();
            assert!(store.update(Var::Ip, b"k", name, (now, Duration::from_secs(100)), |_| Some(value)));
        };
        set(&mut store, b"a", b"1", at(0));
        set(&mut store, b"b", b"1", at(0));
        store.expire(Var::Ip, b"k", b"a", at(0), Duration::from_secs(60));
        assert_eq!(names(&mut store, at(59)), "a=1 b=1");
        // A new value does not prolong a variable, it prolongs the collection.
        set(&mut store, b"a", b"2", at(59));
        assert_eq!(names(&mut store, at(60)), "b=1");
        set(&mut store, b"a", b"3", at(61));
        assert_eq!(names(&mut store, at(160)), "b=1 a=3");
        assert_eq!(names(&mut store, at(161)), "");
        // What comes after a collection's end begins anew.
        set(&mut store, b"c", b"1", at(162));
        assert_eq!(names(&mut store, at(200)), "c=1");
    }

    #[test]
    fn room_is_made_of_the_aged_alone() {
        let (mut store, start) = empty();
        let put = |store: &mut Store, key: usize, now: Instant, seconds| {
            let key = key.to_string();
            let time = (now, Duration::from_secs(seconds));
            store.update(Var::Ip, key.as_bytes(), b"a", time, |_| Some(b"1".to_vec()))
        };
        for key in 0..RECORDS {
            assert!(put(&mut store, key, start, if key == 0 { 5 } else { 100 }));
        }
        assert!(!put(&mut store, RECORDS, start + Duration::from_secs(4), 100), "nothing is aged yet");
        assert!(put(&mut store, 1, start + Duration::from_secs(4), 100), "one that is there is kept");
        assert!(put(&mut store, RECORDS, start + Duration::from_secs(6), 100));
        assert!(!put(&mut store, RECORDS + 1, start + Duration::from_secs(7), 100));
    }

    #[test]
    fn variables_go_down() {
        let hour = Duration::from_secs(3600);
        let value = || read(Var::Ip, b"store-4")[0].1.clone();
        let age = |seconds| {
            with(|store, now| {
                let record = store.record(Var::Ip, b"store-4", now).unwrap();
                record.variables[0].since = now - Duration::from_secs(seconds);
            });
        };
        update(Var::Ip, b"store-4", b"a", hour, |_| Some(b"12".to_vec()));
        decay(Var::Ip, b"store-4", b"a", 5, Duration::from_secs(60));
        assert_eq!(*value(), *b"12");
        age(70);
        decay(Var::Ip, b"store-4", b"a", 5, Duration::from_secs(60));
        assert_eq!(*value(), *b"7");
        decay(Var::Ip, b"store-4", b"a", 5, Duration::from_secs(10));
        assert_eq!(*value(), *b"2", "ten seconds of the seventy remained");
        age(600);
        decay(Var::Ip, b"store-4", b"a", 5, Duration::from_secs(60));
        assert_eq!(*value(), *b"0");
        decay(Var::Ip, b"store-4", b"a", 5, Duration::ZERO);
    }

    #[test]
    fn what_is_too_long_or_too_much_is_not_kept() {
        let hour = Duration::from_secs(3600);
        update(Var::Ip, b"store-3", b"a", hour, |_| Some(vec![b'x'; BYTES + 1]));
        update(Var::Ip, &[b'k'; BYTES + 1], b"a", hour, |_| Some(b"1".to_vec()));
        assert!(read(Var::Ip, b"store-3").is_empty() && read(Var::Ip, &[b'k'; BYTES + 1]).is_empty());
        for number in 0..VARIABLES + 5 {
            update(Var::Ip, b"store-3", number.to_string().as_bytes(), hour, |_| Some(b"1".to_vec()));
        }
        assert_eq!(read(Var::Ip, b"store-3").len(), VARIABLES);
    }
}
