//! The state machine: applying is deterministic, and depends on nothing but the commands before.

use std::ops::Bound;

use crate::limits::{KEY_BYTES_MAX, SCAN_BYTES_MAX, SCAN_PAIRS_MAX, VALUE_BYTES_MAX};
use crate::store::shared_map::SharedMap;
use crate::store::{Answer, Command, Condition, KeyValue, Query, Stored};

/// The map. Revisions count the writes that changed something, from 1 on, over all keys: of two writes the later has the
/// higher revision. Cloning it is cheap, whatever its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvStateMachine {
    pub(super) revision: u64,
    pub(super) map: SharedMap,
}

impl KvStateMachine {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// The revision of the last write, 0 before the first.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.map.len() == 0
    }

    /// Applies a write.
    ///
    /// The bounds are checked here as well as at the door: every server must decide alike, and not every writer comes
    /// through the HTTP interface.
    pub fn apply(&mut self, command: Command) -> Answer {
        match command {
            Command::Put { key, value, condition } => {
                if key.is_empty() || key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
                    return Answer::TooLong;
                }
                if !self.holds(&key, &condition) {
                    return self.refused(&key);
                }
                self.revision += 1;
                let stored = Stored { value, revision: self.revision };
                let previous = self.map.insert(&key, stored).map(|before| before.revision);
                Answer::Written { revision: self.revision, previous }
            }
            Command::Delete { key, condition } => {
                if !self.holds(&key, &condition) {
                    return self.refused(&key);
                }
                let previous = self.map.remove(&key).map(|before| before.revision);
                if previous.is_some() {
                    self.revision += 1;
                }
                Answer::Written { revision: self.revision, previous }
            }
        }
    }

    /// Answers a read.
    pub fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Get { key } => Answer::Value(self.map.get(key).cloned()),
            Query::Scan { prefix, after, limit } => self.scan(prefix, after.as_deref(), *limit),
        }
    }

    fn scan(&self, prefix: &str, after: Option<&str>, limit: u64) -> Answer {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(SCAN_PAIRS_MAX);
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut found = self.map.range_from(start).take_while(|(key, _)| key.starts_with(prefix)).peekable();
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        while pairs.len() < limit && bytes < SCAN_BYTES_MAX {
            let Some((key, stored)) = found.next() else { break };
            bytes += key.len() + stored.value.len();
            pairs.push(KeyValue { key: key.to_owned(), stored: stored.clone() });
        }
        Answer::Pairs { pairs, more: found.peek().is_some() }
    }

    fn holds(&self, key: &str, condition: &Condition) -> bool {
        let found = self.map.get(key);
        match condition {
            Condition::Always => true,
            Condition::Revision(0) => found.is_none(),
            Condition::Revision(revision) => found.is_some_and(|stored| stored.revision == *revision),
            Condition::Value(value) => found.is_some_and(|stored| stored.value == *value),
        }
    }

    fn refused(&self, key: &str) -> Answer {
        Answer::Refused { found: self.map.get(key).map(|stored| stored.revision) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put(key: &str, value: &'static str) -> Command {
        put_if(key, value, Condition::Always)
    }

    fn put_if(key: &str, value: &'static str, condition: Condition) -> Command {
        Command::Put { key: key.into(), value: Bytes::from_static(value.as_bytes()), condition }
    }

    fn delete(key: &str, condition: Condition) -> Command {
        Command::Delete { key: key.into(), condition }
    }

    fn get(kv: &KvStateMachine, key: &str) -> Option<(Bytes, u64)> {
        match kv.query(&Query::Get { key: key.into() }) {
            Answer::Value(stored) => stored.map(|s| (s.value, s.revision)),
            other => panic!("a get answered {other:?}"),
        }
    }

    fn scan(kv: &KvStateMachine, prefix: &str, after: Option<&str>, limit: u64) -> (Vec<String>, bool) {
        match kv.query(&Query::Scan { prefix: prefix.into(), after: after.map(Into::into), limit }) {
            Answer::Pairs { pairs, more } => (pairs.into_iter().map(|p| p.key).collect(), more),
            other => panic!("a scan answered {other:?}"),
        }
    }

    #[test]
    fn revisions_count_writes_over_all_keys() {
        let mut kv = KvStateMachine::new();
        assert_eq!(kv.apply(put("a", "1")), Answer::Written { revision: 1, previous: None });
        assert_eq!(kv.apply(put("b", "1")), Answer::Written { revision: 2, previous: None });
        assert_eq!(kv.apply(put("a", "2")), Answer::Written { revision: 3, previous: Some(1) });
        assert_eq!(get(&kv, "a"), Some((Bytes::from("2"), 3)));
        assert_eq!(kv.apply(delete("a", Condition::Always)), Answer::Written { revision: 4, previous: Some(3) });
        assert_eq!(get(&kv, "a"), None);
    }

    #[test]
    fn deleting_what_is_not_there_changes_nothing() {
        let mut kv = KvStateMachine::new();
        kv.apply(put("a", "1"));
        let before = kv.clone();
        assert_eq!(kv.apply(delete("b", Condition::Always)), Answer::Written { revision: 1, previous: None });
        assert_eq!(kv, before);
    }

    #[test]
    fn a_write_can_ask_for_a_revision() {
        let mut kv = KvStateMachine::new();
        assert_eq!(kv.apply(put_if("a", "1", Condition::Revision(0))), Answer::Written { revision: 1, previous: None });
        assert_eq!(kv.apply(put_if("a", "2", Condition::Revision(0))), Answer::Refused { found: Some(1) });
        assert_eq!(kv.apply(put_if("a", "2", Condition::Revision(9))), Answer::Refused { found: Some(1) });
        assert_eq!(kv.apply(delete("b", Condition::Revision(1))), Answer::Refused { found: None });
        assert_eq!(kv.revision(), 1, "what is refused changes nothing");
        assert_eq!(
            kv.apply(put_if("a", "2", Condition::Revision(1))),
            Answer::Written { revision: 2, previous: Some(1) }
        );
    }

    #[test]
    fn a_write_can_ask_for_a_value() {
        let mut kv = KvStateMachine::new();
        kv.apply(put("a", "1"));
        let wrong = Condition::Value(Bytes::from("2"));
        assert_eq!(kv.apply(put_if("a", "3", wrong.clone())), Answer::Refused { found: Some(1) });
        assert_eq!(kv.apply(delete("b", wrong)), Answer::Refused { found: None });
        let right = Condition::Value(Bytes::from("1"));
        assert_eq!(kv.apply(delete("a", right)), Answer::Written { revision: 2, previous: Some(1) });
    }

    #[test]
    fn bounds_hold_inside_too() {
        let mut kv = KvStateMachine::new();
        let key = "k".repeat(KEY_BYTES_MAX + 1);
        assert_eq!(kv.apply(put(&key, "1")), Answer::TooLong);
        assert_eq!(kv.apply(put("", "1")), Answer::TooLong);
        let value = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
        assert_eq!(kv.apply(Command::Put { key: "k".into(), value, condition: Condition::Always }), Answer::TooLong);
        assert!(kv.is_empty());
        assert_eq!(kv.apply(put(&key[1..], "1")), Answer::Written { revision: 1, previous: None });
    }

    #[test]
    fn a_scan_goes_through_a_prefix_in_pages() {
        let mut kv = KvStateMachine::new();
        for key in ["a", "b/1", "b/2", "b/3", "c"] {
            kv.apply(put(key, "1"));
        }
        assert_eq!(scan(&kv, "b/", None, 2), (vec!["b/1".into(), "b/2".into()], true));
        assert_eq!(scan(&kv, "b/", Some("b/2"), 2), (vec!["b/3".into()], false));
        assert_eq!(scan(&kv, "b/", Some("a"), 9).0.len(), 3);
        assert_eq!(scan(&kv, "", None, u64::MAX).0.len(), 5);
        assert_eq!(scan(&kv, "d", None, 5), (vec![], false));
    }

    #[test]
    fn a_scan_ends_at_its_bounds_and_says_that_there_is_more() {
        let mut kv = KvStateMachine::new();
        for key in 0..=SCAN_PAIRS_MAX {
            kv.apply(put(&format!("{key:08}"), ""));
        }
        let (first, more) = scan(&kv, "", None, u64::MAX);
        assert_eq!((first.len(), more), (SCAN_PAIRS_MAX, true));
        let (rest, more) = scan(&kv, "", first.last().map(String::as_str), u64::MAX);
        assert_eq!((rest.len(), more), (1, false));

        let mut kv = KvStateMachine::new();
        // All share their bytes.
        let value = Bytes::from(vec![0; VALUE_BYTES_MAX]);
        let most = SCAN_BYTES_MAX / VALUE_BYTES_MAX;
        for key in 0..=most {
            kv.apply(Command::Put { key: key.to_string(), value: value.clone(), condition: Condition::Always });
        }
        assert_eq!((scan(&kv, "", None, 100).0.len(), scan(&kv, "", None, 100).1), (most, true));
    }
}
