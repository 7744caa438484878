//! What will happen, in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::clock::SimTime;

/// Events by time; at equal times first in, first out.
#[derive(Debug, Clone)]
pub struct EventQueue<E> {
    heap: BinaryHeap<Reverse<Scheduled<E>>>,
    pushed: u64,
}

#[derive(Debug, Clone)]
struct Scheduled<E> {
    at: SimTime,
    number: u64,
    event: E,
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl<E> Eq for Scheduled<E> {}
impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Scheduled<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), pushed: 0 }
    }
}

impl<E> EventQueue<E> {
    /// Schedules an event.
    pub fn push(&mut self, at: SimTime, event: E) {
        self.heap.push(Reverse(Scheduled { at, number: self.pushed, event }));
        self.pushed += 1;
    }

    /// The moment of the next event.
    pub fn next_at(&self) -> Option<SimTime> {
        self.heap.peek().map(|Reverse(next)| next.at)
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<(SimTime, E)> {
        self.heap.pop().map(|Reverse(next)| (next.at, next.event))
    }

    /// How many events are scheduled.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is scheduled.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_their_scheduling() {
        let mut queue = EventQueue::default();
        for (at, event) in [(5, "c"), (1, "a"), (5, "d"), (2, "b")] {
            queue.push(SimTime(at), event);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }
}
