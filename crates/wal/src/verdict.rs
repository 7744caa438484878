//! What recovery decides about a record, as one pure function over what is known about it.
//!
//! The question behind the table: may somebody have been told that this record is durable? A record that provably never
//! was acknowledged may be cut. Any other may not, however damaged it is: the log would get shorter than what was
//! promised (never "cut at the first bad checksum").

use std::fmt;

/// What is known about the batch that a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// Something behind it says that a barrier made it durable.
    Proven,
    /// It is the last one and all of it arrived: it may have been acknowledged.
    Possible,
    /// It is the last one and parts of it never arrived, so that its flush cannot have returned.
    Never,
}

/// How many of the two copies of a record's head verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heads {
    /// Both.
    Both,
    /// One.
    One,
    /// None: it is unknown what stood here.
    Neither,
}

/// State of a record's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It verifies, or the record has none.
    Good,
    /// It does not verify, and the batch's trailer holds the same bytes (a vote).
    BadWithCopy,
    /// It does not verify.
    Bad,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it was written.
    Good,
    /// Known in full from the second copy of what is damaged.
    Repaired,
    /// It is known which entry this is, and its payload is lost: to be fetched again from other nodes.
    BodyDamaged,
    /// It is unknown what stood here: abstain from votes until a leader has caught this node up.
    HeadUnknown,
    /// Torn and never acknowledged: cut.
    Cut,
    /// The files contradict themselves: refuse to start.
    BeyondRepair,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Repaired => "repaired from its second copy",
            Self::BodyDamaged => "body damaged after it may have been acknowledged",
            Self::HeadUnknown => "head unknown, something acknowledged may have stood here",
            Self::Cut => "torn and never acknowledged, cut",
            Self::BeyondRepair => "beyond repair",
        })
    }
}

/// The verdict on one record.
pub fn record_verdict(acknowledged: Acknowledged, heads: Heads, body: Body) -> Verdict {
    match (acknowledged, heads, body) {
        (
            Acknowledged::Never,
            Heads::Both | Heads::One | Heads::Neither,
            Body::Good | Body::BadWithCopy | Body::Bad,
        ) => Verdict::Cut,
        (Acknowledged::Proven | Acknowledged::Possible, Heads::Neither, Body::Good | Body::BadWithCopy | Body::Bad) => {
            Verdict::HeadUnknown
        }
        (Acknowledged::Proven | Acknowledged::Possible, Heads::Both, Body::Good) => Verdict::Good,
        (Acknowledged::Proven | Acknowledged::Possible, Heads::One, Body::Good)
        | (Acknowledged::Proven | Acknowledged::Possible, Heads::Both | Heads::One, Body::BadWithCopy) => {
            Verdict::Repaired
        }
        (Acknowledged::Proven | Acknowledged::Possible, Heads::Both | Heads::One, Body::Bad) => Verdict::BodyDamaged,
    }
}

/// State of the header at the place where a batch is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderSeen {
    /// It verifies and continues the chain.
    Good,
    /// It verifies and does not continue the chain: from another place or another time.
    Alien,
    /// Nothing arrived there.
    Unwritten,
    /// Written and then damaged.
    Bad,
}

/// State of the trailer of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailerSeen {
    /// It verifies.
    Good,
    /// Its end never arrived.
    Unwritten,
    /// Written and then damaged.
    Bad,
}

/// Whether sectors of the batch are zero that were not written as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sectors {
    /// All arrived.
    All,
    /// Some never arrived.
    Missing,
}

/// What the place of a batch holds, seen as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchVerdict {
    /// Judge its records one by one, with this knowledge.
    Records(Acknowledged),
    /// The log ends before this place; whatever parts of a batch are here were never acknowledged.
    End,
    /// A batch stood here or may have stood here, and its records are unknown.
    HeadUnknown,
    /// A batch of another place or time stands here.
    BeyondRepair,
}

/// The verdict on the place where a batch is expected. `proven`: something behind this place says that a barrier made
/// the batch with the expected number durable.
pub fn batch_verdict(header: HeaderSeen, trailer: TrailerSeen, sectors: Sectors, proven: bool) -> BatchVerdict {
    match (header, proven) {
        (HeaderSeen::Good, true) => BatchVerdict::Records(Acknowledged::Proven),
        (HeaderSeen::Good, false) => match (trailer, sectors) {
            (TrailerSeen::Good | TrailerSeen::Bad, Sectors::All) => BatchVerdict::Records(Acknowledged::Possible),
            (TrailerSeen::Good | TrailerSeen::Bad, Sectors::Missing)
            | (TrailerSeen::Unwritten, Sectors::All | Sectors::Missing) => BatchVerdict::Records(Acknowledged::Never),
        },
        (HeaderSeen::Unwritten, false) => BatchVerdict::End,
        (HeaderSeen::Unwritten | HeaderSeen::Bad, true) | (HeaderSeen::Bad, false) => BatchVerdict::HeadUnknown,
        (HeaderSeen::Alien, true | false) => BatchVerdict::BeyondRepair,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACKNOWLEDGED: [Acknowledged; 3] = [Acknowledged::Proven, Acknowledged::Possible, Acknowledged::Never];
    const HEADS: [Heads; 3] = [Heads::Both, Heads::One, Heads::Neither];
    const BODIES: [Body; 3] = [Body::Good, Body::BadWithCopy, Body::Bad];

    /// All 27 rows, against the three sentences that the documentation states.
    #[test]
    fn every_row_of_the_record_table() {
        for acknowledged in ACKNOWLEDGED {
            for heads in HEADS {
                for body in BODIES {
                    let verdict = record_verdict(acknowledged, heads, body);
                    // Cut if and only if it provably was never acknowledged.
                    assert_eq!(verdict == Verdict::Cut, acknowledged == Acknowledged::Never);
                    if acknowledged == Acknowledged::Never {
                        continue;
                    }
                    // Unknown if and only if no head is left.
                    assert_eq!(verdict == Verdict::HeadUnknown, heads == Heads::Neither);
                    // Good or repaired if and only if identity and body are known in full.
                    let known = heads != Heads::Neither && body != Body::Bad;
                    assert_eq!(matches!(verdict, Verdict::Good | Verdict::Repaired), known);
                    assert_eq!(verdict == Verdict::Good, heads == Heads::Both && body == Body::Good);
                }
            }
        }
    }

    /// All 48 rows: whatever a barrier proved durable is never an end and never cut.
    #[test]
    fn every_row_of_the_batch_table() {
        for header in [HeaderSeen::Good, HeaderSeen::Alien, HeaderSeen::Unwritten, HeaderSeen::Bad] {
            for trailer in [TrailerSeen::Good, TrailerSeen::Unwritten, TrailerSeen::Bad] {
                for sectors in [Sectors::All, Sectors::Missing] {
                    for proven in [true, false] {
                        let verdict = batch_verdict(header, trailer, sectors, proven);
                        let lets_go = matches!(verdict, BatchVerdict::End | BatchVerdict::Records(Acknowledged::Never));
                        let never_arrived = sectors == Sectors::Missing || trailer == TrailerSeen::Unwritten;
                        let torn = match header {
                            HeaderSeen::Good => never_arrived,
                            HeaderSeen::Unwritten => true,
                            HeaderSeen::Alien | HeaderSeen::Bad => false,
                        };
                        assert_eq!(lets_go, torn && !proven, "{header:?} {trailer:?} {sectors:?} {proven}");
                        assert_eq!(
                            matches!(verdict, BatchVerdict::Records(_)),
                            header == HeaderSeen::Good,
                            "records can be judged when the header says where they are, and only then"
                        );
                    }
                }
            }
        }
    }
}
