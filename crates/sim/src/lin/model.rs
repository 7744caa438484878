//! Sequential objects: what each operation does when it is alone.

use core::fmt::Debug;
use core::hash::Hash;

/// A sequential object that falls into independent parts, one for each key.
///
/// A history over many keys is linearizable exactly if its part on each key is (Herlihy and Wing 1990, locality), so the
/// model says the key of an operation and the checker handles keys one by one.
pub trait Model {
    /// The name of an independent part.
    type Key: Ord + Clone + Debug;
    /// What a client asks.
    type Op: Clone + PartialEq + Debug;
    /// What a client is told.
    type Ret: Clone + Debug;
    /// The state of one part.
    type State: Clone + Eq + Hash + Debug;

    /// The part that an operation touches.
    fn key(op: &Self::Op) -> Self::Key;

    /// The state of a part before the first operation.
    fn initial(key: &Self::Key) -> Self::State;

    /// The state after `op`, or `None` if `op` could not have answered `ret` here. `ret` is `None` for an operation whose
    /// answer nobody saw; every such operation must be possible in every state.
    fn apply(state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State>;

    /// Whether `op` can never change a state. Such an operation of unknown outcome is left out of the search.
    fn is_read_only(op: &Self::Op) -> bool;

    /// Whether the state after `op` is the same whatever the state before, as after setting a value. The search is faster
    /// where it knows that.
    fn is_blind(_op: &Self::Op) -> bool {
        false
    }
}

/// Operations of a map from keys to values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KvOp<K, V> {
    /// Sets the value of a key.
    Put {
        /// The key.
        key: K,
        /// Its new value.
        value: V,
    },
    /// Asks for the value of a key.
    Get {
        /// The key.
        key: K,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: K,
    },
    /// Sets the value of a key to `new` (`None` removes it) if it is `expected` (`None`: absent) before.
    CompareAndSet {
        /// The key.
        key: K,
        /// The value that must be there.
        expected: Option<V>,
        /// The value to set.
        new: Option<V>,
    },
}

/// Answers of a map from keys to values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KvRet<V> {
    /// A put or delete was done.
    Done,
    /// The value that a get found.
    Value(Option<V>),
    /// A compare-and-set found what it expected and did its work.
    Swapped,
    /// A compare-and-set found this instead and did nothing.
    Mismatch(Option<V>),
}

/// A map from keys to values, all absent at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct KvModel<K, V>(core::marker::PhantomData<(K, V)>);

impl<K, V> Model for KvModel<K, V>
where
    K: Ord + Clone + Debug,
    V: Clone + Eq + Hash + Debug,
{
    type Key = K;
    type Op = KvOp<K, V>;
    type Ret = KvRet<V>;
    type State = Option<V>;

    fn key(op: &Self::Op) -> K {
        match op {
            KvOp::Put { key, .. } | KvOp::Get { key } | KvOp::Delete { key } | KvOp::CompareAndSet { key, .. } => {
                key.clone()
            }
        }
    }

    fn initial(_key: &K) -> Self::State {
        None
    }

    fn apply(state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State> {
        let (next, answer) = match op {
            KvOp::Put { value, .. } => (Some(value.clone()), KvRet::Done),
            KvOp::Delete { .. } => (None, KvRet::Done),
            KvOp::Get { .. } => (state.clone(), KvRet::Value(state.clone())),
            KvOp::CompareAndSet { expected, new, .. } if expected == state => (new.clone(), KvRet::Swapped),
            KvOp::CompareAndSet { .. } => (state.clone(), KvRet::Mismatch(state.clone())),
        };
        match ret {
            Some(seen) if *seen != answer => None,
            Some(_) | None => Some(next),
        }
    }

    fn is_read_only(op: &Self::Op) -> bool {
        match op {
            KvOp::Get { .. } => true,
            KvOp::Put { .. } | KvOp::Delete { .. } | KvOp::CompareAndSet { .. } => false,
        }
    }

    fn is_blind(op: &Self::Op) -> bool {
        match op {
            KvOp::Put { .. } | KvOp::Delete { .. } => true,
            KvOp::Get { .. } | KvOp::CompareAndSet { .. } => false,
        }
    }
}
