//! What an application writes.

use std::io::{Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Any error, of a state machine's own choice.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A state as it was at one moment, to be written out by another thread: it is given a writer, once.
pub type Frozen = Box<dyn FnOnce(&mut dyn Write) -> Result<(), BoxError> + Send>;

/// An application's state, replicated. It is held in memory, once on every node; after a restart it is made anew from the
/// newest snapshot and the log behind it.
///
/// Every node applies the same commands in the same order, so [`apply`](StateMachine::apply) must come to the same state
/// and the same answer everywhere: no clock, no random numbers, no iteration over hash maps, no files. What a command
/// needs of those belongs into the command.
pub trait StateMachine: Send + 'static {
    /// What changes the state. Encoded once, by the client.
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// What asks for the state without changing it.
    type Query: Serialize + DeserializeOwned + Send + 'static;
    /// What both answer.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// Changes the state. A command that cannot be obeyed is answered so; a panic stops the node.
    fn apply(&mut self, command: Self::Command) -> Self::Answer;

    /// Looks at the state. Must be quick: nothing is applied meanwhile.
    fn query(&self, query: Self::Query) -> Self::Answer;

    /// The whole state as bytes (Raft §7): what a restart begins with, and what a node gets that is too far behind to be
    /// sent the log. [`encode`] makes them of any serializable value. Nothing is applied meanwhile, unless
    /// [`freeze`](StateMachine::freeze) is written too.
    ///
    /// # Errors
    /// The node goes on without this snapshot.
    fn snapshot(&self) -> Result<Vec<u8>, BoxError>;

    /// Replaces the whole state by one that [`snapshot`](StateMachine::snapshot) has made, maybe on another node.
    /// [`decode`] is the other half of [`encode`].
    ///
    /// # Errors
    /// Stop the node: a state that is neither the old nor the new one serves nobody.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), BoxError>;

    /// The state as it is now, to be written while commands go on being applied. For a state that is large: a snapshot must
    /// show one moment, and the only way not to stop the world for as long as the writing takes is to hold on to that moment
    /// cheaply. What serves is a map of reference-counted, copied-on-write parts, a store with views of its own, or a
    /// channel to whoever has the data. The default is [`snapshot`](StateMachine::snapshot): right for what is small.
    ///
    /// The bytes must be those that [`snapshot`](StateMachine::snapshot) makes.
    ///
    /// # Errors
    /// The node goes on without this snapshot.
    fn freeze(&self) -> Result<Frozen, BoxError> {
        let bytes = self.snapshot()?;
        Ok(Box::new(move |to| Ok(to.write_all(&bytes)?)))
    }

    /// As [`restore`](StateMachine::restore), from a stream that ends with the snapshot: for a state that is large, so that
    /// its bytes and itself are never in memory together. The default reads all of it and calls `restore`.
    ///
    /// # Errors
    /// Stop the node.
    fn restore_from(&mut self, from: &mut dyn Read) -> Result<(), BoxError> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        self.restore(&bytes)
    }
}

/// A value as bytes: [postcard](https://postcard.jamesmunns.com), compact and without names.
///
/// # Errors
/// The value's own `Serialize` fails.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, BoxError> {
    Ok(postcard::to_allocvec(value)?)
}

/// The value that [`encode`] made bytes of.
///
/// # Errors
/// The bytes are not those of such a value, to the last one.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BoxError> {
    Ok(decode_exactly(bytes)?)
}

/// As postcard decodes, but bytes that are left over are an error: they mean that the sender meant something else.
pub(crate) fn decode_exactly<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, postcard::Error> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        (_, [_, ..]) => Err(postcard::Error::DeserializeBadEncoding),
    }
}

/// Encodes behind the bytes that `start` holds already.
pub(crate) fn encode_behind<T: Serialize>(start: Vec<u8>, value: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(value, start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_over_is_an_error() {
        let mut bytes = encode("apple").unwrap();
        assert_eq!(decode::<String>(&bytes).unwrap(), "apple");
        bytes.push(0);
        assert!(decode::<String>(&bytes).is_err());
    }

    #[test]
    fn encoding_behind_a_start_keeps_it() {
        let bytes = encode_behind(vec![7, 8], &300u16).unwrap();
        assert_eq!((&bytes[..2], decode::<u16>(&bytes[2..]).unwrap()), (&[7, 8][..], 300));
    }
}
