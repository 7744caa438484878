//! Who waits for an answer of the replica.

use raftwright_core::Ticket;

/// Gives out tickets for waiters and finds them again. A ticket is a place and a generation, so one that was answered
/// never names a later waiter.
///
/// Bounded by the replica, which holds back only as many tickets as its own bounds allow (`reads_max`, `promises_max`, one
/// change of membership, one transfer).
pub(crate) struct Tickets<W> {
    places: Vec<Place<W>>,
    free: Vec<u32>,
}

struct Place<W> {
    generation: u32,
    waiter: Option<W>,
}

impl<W> Tickets<W> {
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// A ticket for this waiter.
    pub(crate) fn issue(&mut self, waiter: W) -> Ticket {
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.places.push(Place { generation: 0, waiter: None });
                (self.places.len() - 1) as u32
            }
        };
        let place = &mut self.places[at as usize];
        place.waiter = Some(waiter);
        Ticket(u64::from(place.generation) << 32 | u64::from(at))
    }

    /// The waiter of this ticket, which is then used up.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<W> {
        let at = (ticket.0 & u64::from(u32::MAX)) as u32;
        let place = self.places.get_mut(at as usize)?;
        if u64::from(place.generation) != ticket.0 >> 32 {
            return None;
        }
        let waiter = place.waiter.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(at);
        Some(waiter)
    }

    /// The waiter of this ticket, which stays good.
    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        let at = (ticket.0 & u64::from(u32::MAX)) as u32;
        let place = self.places.get_mut(at as usize)?;
        if u64::from(place.generation) != ticket.0 >> 32 {
            return None;
        }
        place.waiter.as_mut()
    }

    /// Forgets all waiters, which tells them that no answer will come.
    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.free.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_one_answer() {
        let mut tickets = Tickets::new();
        let (a, b) = (tickets.issue('a'), tickets.issue('b'));
        assert_eq!((tickets.take(b), tickets.take(b)), (Some('b'), None));
        let c = tickets.issue('c');
        assert_ne!(b, c, "a place is used again under another ticket");
        assert_eq!((tickets.get_mut(b).copied(), tickets.get_mut(c).copied()), (None, Some('c')));
        assert_eq!((tickets.take(b), tickets.take(c), tickets.take(a)), (None, Some('c'), Some('a')));
    }
}
