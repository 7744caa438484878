//! The two machines of a transfer against each other, with lines that break anywhere, servers that restart, damage, and two
//! leaders. No socket, no clock: the same seed is the same run.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use raftwright_traits::crc32c;
use raftwright_traits::transfer::{
    FinishVerdict, OfferVerdict, PieceSizes, RECEIPT_IDLE_MAX, ReceiptId, Rejection, SenderStep, SnapshotOffer,
    SnapshotPiece, SnapshotReceiver, SnapshotSender, Throttle, TransferAnswer, TransferOutcome, TransferRequest,
};
use raftwright_traits::{
    CommittedLeaderId, CommittedLeaderIdOf, Identity, InstallOutcome, InstallSnapshotResponse, LogId, Snapshot,
    SnapshotMeta, SnapshotRequest, Span, StoredMembership, Time, Vote,
};

raftwright_traits::declare_raft_types!(
    /// Nothing special.
    Config: D = u64, R = u64
);

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

const CHUNK: u64 = 64;
const START: Time = Time::from_nanos(0);

fn me(id: u64) -> Identity<u64> {
    Identity { id, incarnation: None }
}

fn offer(leader: u64, term: u64, index: u64, size: u64) -> SnapshotOffer<Config> {
    let meta = SnapshotMeta::<Config> {
        last_log_id: Some(LogId::new(CommittedLeaderIdOf::<Config>::new(1, None), index)),
        last_membership: StoredMembership::<Config>::default(),
        snapshot_id: index.to_string(),
    };
    let content = std::io::Cursor::new(Vec::new());
    let snapshot = Arc::new(Snapshot { meta, snapshot: content });
    SnapshotOffer::new(&SnapshotRequest { from: me(leader), vote: Vote::new_committed(term, leader), snapshot }, size)
}

fn sender(offer: SnapshotOffer<Config>) -> SnapshotSender<Config> {
    SnapshotSender::new(offer, PieceSizes::new(CHUNK, 4), Span::from_millis(1))
}

/// The receiving server.
struct Receiving {
    machine: SnapshotReceiver<Config>,
    content: Option<Vec<u8>>,
    installed: Vec<Vec<u8>>,
    /// How often an installation says that it goes on before it ends.
    patience: u64,
}

impl Receiving {
    fn new(first: u64) -> Self {
        Receiving {
            machine: SnapshotReceiver::new(ReceiptId(first)),
            content: None,
            installed: Vec::new(),
            patience: 0,
        }
    }

    fn answer(&mut self, request: TransferRequest<Config>) -> TransferAnswer<Config> {
        match request {
            TransferRequest::Offer(offer) => match self.machine.on_offer(START, offer) {
                OfferVerdict::Answer(answer) => answer,
                OfferVerdict::Begin(new) => {
                    self.content = Some(Vec::new());
                    self.machine.begin(START, new)
                }
            },
            TransferRequest::Piece(piece) => match self.machine.on_piece(START, piece) {
                Ok(verified) => {
                    let content = self.content.as_mut().expect("a receipt has content");
                    assert_eq!(verified.offset(), content.len() as u64, "written without gaps");
                    content.extend_from_slice(verified.bytes());
                    self.machine.written(&verified)
                }
                Err(rejection) => self.rejected(rejection),
            },
            TransferRequest::Finish(finish) => match self.machine.on_finish(START, &finish) {
                FinishVerdict::Install(offer) => {
                    let content = self.content.take().expect("a receipt has content");
                    assert_eq!(content.len() as u64, offer.size);
                    self.installed.push(content);
                    self.patience = 3;
                    TransferAnswer::Installing(finish.receipt)
                }
                FinishVerdict::Wait if self.patience > 0 => {
                    self.patience -= 1;
                    TransferAnswer::Installing(finish.receipt)
                }
                FinishVerdict::Wait => {
                    self.machine.installed();
                    let outcome = InstallOutcome::<Config>::Installed;
                    TransferAnswer::Done(InstallSnapshotResponse::<Config> { from: me(9), outcome })
                }
                FinishVerdict::Reject(rejection) => self.rejected(rejection),
            },
        }
    }

    fn rejected(&mut self, rejection: Rejection) -> TransferAnswer<Config> {
        if !self.machine.is_receiving() {
            self.content = None;
        }
        TransferAnswer::Rejected(rejection)
    }
}

/// A leader with its line to the server.
struct Sending {
    machine: SnapshotSender<Config>,
    offer: SnapshotOffer<Config>,
    content: Vec<u8>,
    requests: VecDeque<TransferRequest<Config>>,
    answers: VecDeque<TransferAnswer<Config>>,
    sent_bytes: u64,
    cuts: u64,
}

impl Sending {
    fn new(offer: SnapshotOffer<Config>, content: Vec<u8>) -> Self {
        let machine = sender(offer.clone());
        let (requests, answers) = (VecDeque::new(), VecDeque::new());
        Sending { machine, offer, content, requests, answers, sent_bytes: 0, cuts: 0 }
    }

    fn cut(&mut self) {
        self.requests.clear();
        self.answers.clear();
        self.cuts += 1;
        self.machine.reconnected();
    }

    /// One step; the outcome when it is over.
    fn step(&mut self) -> Option<TransferOutcome<Config>> {
        match self.machine.step() {
            SenderStep::Send(request) => {
                if let TransferRequest::Piece(piece) = &request {
                    self.sent_bytes += piece.bytes.len() as u64;
                }
                self.requests.push_back(request);
            }
            SenderStep::Read { offset, len } => {
                let bytes = &self.content[offset as usize..][..len as usize];
                self.machine.on_read(offset, Bytes::copy_from_slice(bytes));
            }
            SenderStep::Compare { upto } => {
                let checksum = crc32c::crc32c(&self.content[..upto as usize]);
                self.machine.on_prefix(upto, checksum);
            }
            SenderStep::Wait => {}
            SenderStep::Over(outcome) => return Some(outcome),
        }
        assert!(self.machine.in_flight_bytes() <= CHUNK);
        None
    }
}

/// Damages one thing in a piece.
fn damage(request: &mut TransferRequest<Config>, random: &mut Random) {
    if let TransferRequest::Piece(SnapshotPiece { receipt: _, offset, checksum, bytes }) = request {
        match random.below(3) {
            0 => *checksum ^= 1 << random.below(32),
            1 => *offset ^= 1 << random.below(8),
            _ => {
                let mut changed = bytes.to_vec();
                let at = random.below(changed.len() as u64) as usize;
                changed[at] ^= 1 << random.below(8);
                *bytes = changed.into();
            }
        }
    }
}

#[test]
fn a_line_that_breaks_anywhere_costs_at_most_a_chunk_each_time() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let size = random.below(2000);
        let content = random.bytes(size);
        let mut sending = Sending::new(offer(1, 3, 5, size), content.clone());
        let mut receiving = Receiving::new(100);
        let outcome = loop {
            if random.one_in(40) {
                sending.cut();
            }
            match random.below(3) {
                0 => {
                    if let Some(request) = sending.requests.pop_front() {
                        sending.answers.push_back(receiving.answer(request));
                    }
                }
                1 => {
                    if let Some(answer) = sending.answers.pop_front() {
                        sending.machine.on_answer(answer);
                    }
                }
                _ => {
                    if let Some(outcome) = sending.step() {
                        break outcome;
                    }
                }
            }
        };
        match outcome {
            TransferOutcome::Answered(answer) => assert_eq!(answer.outcome, InstallOutcome::<Config>::Installed),
            // The line broke while it was being installed; the server itself would say that it has it.
            TransferOutcome::Rejected(Rejection::Busy) => assert!(!receiving.installed.is_empty()),
            other => panic!("seed {seed}: {other:?}"),
        }
        assert!(receiving.installed.iter().all(|installed| *installed == content), "seed {seed}");
        let rounds = receiving.installed.len() as u64;
        assert!(sending.sent_bytes <= rounds.max(1) * size + sending.cuts * CHUNK, "seed {seed}");
    }
}

#[test]
fn damage_restarts_and_two_leaders_never_install_what_nobody_sent() {
    let (mut installed, mut damaged, mut superseded, mut outvoted) = (0, 0, 0, 0);
    for seed in 0..2000 {
        let mut random = Random(seed ^ 0xdead_beef);
        let size = random.below(1000);
        // The same last entry, id and length; other bytes, and sometimes the same leader elected again.
        let second_leader = if random.one_in(2) { 1 } else { 2 };
        let contents = [random.bytes(size), random.bytes(size)];
        let offers = [offer(1, 3, 5, size), offer(second_leader, 4, 5, size)];
        let mut sendings: Vec<Sending> =
            offers.into_iter().zip(&contents).map(|(offer, content)| Sending::new(offer, content.clone())).collect();
        let mut receiving = Receiving::new(100);
        let mut lives = 1;
        for _ in 0..3000 {
            let which = random.below(2) as usize;
            let sending = &mut sendings[which];
            match random.below(400) {
                0 => sending.cut(),
                1 => {
                    lives += 1;
                    let mut restarted = Receiving::new(100 + lives * 1_000_000);
                    restarted.installed = std::mem::take(&mut receiving.installed);
                    receiving = restarted;
                    sendings.iter_mut().for_each(Sending::cut);
                }
                2 => {
                    if let Some(request) = sending.requests.front_mut() {
                        damage(request, &mut random);
                    }
                }
                3..130 => {
                    if let Some(request) = sending.requests.pop_front() {
                        sending.answers.push_back(receiving.answer(request));
                    }
                }
                130..260 => {
                    if let Some(answer) = sending.answers.pop_front() {
                        sending.machine.on_answer(answer);
                    }
                }
                _ => match sending.step() {
                    None => {}
                    Some(outcome) => {
                        match outcome {
                            TransferOutcome::Answered(_) => installed += 1,
                            TransferOutcome::Rejected(Rejection::Damaged) => damaged += 1,
                            TransferOutcome::Rejected(Rejection::Superseded) => superseded += 1,
                            TransferOutcome::Rejected(_) => {}
                            TransferOutcome::Outvoted(vote) => {
                                assert_eq!(vote, Vote::new_committed(4, second_leader), "seed {seed}");
                                outvoted += 1;
                            }
                            TransferOutcome::Confused(why) => panic!("seed {seed}: {why}"),
                        }
                        // The next attempt is a transfer of its own, on a line of its own.
                        *sending = Sending::new(sending.offer.clone(), sending.content.clone());
                    }
                },
            }
        }
        for content in &receiving.installed {
            assert!(contents.contains(content), "seed {seed}: nobody sent that");
        }
    }
    // Each of the ways through has been gone often.
    assert!(
        installed > 1000 && damaged > 100 && superseded > 1000 && outvoted > 1000,
        "{installed} {damaged} {superseded} {outvoted}"
    );
}

#[test]
fn a_receipt_that_hears_nothing_ends_and_one_that_is_being_installed_does_not() {
    let mut machine = SnapshotReceiver::<Config>::new(ReceiptId(1));
    assert_eq!(machine.deadline(), None);
    let OfferVerdict::Begin(new) = machine.on_offer(START, offer(1, 3, 5, 4)) else { panic!("not begun") };
    let TransferAnswer::Accepted { receipt, .. } = machine.begin(START, new) else { panic!("not accepted") };
    let half = START + Span::from_nanos(RECEIPT_IDLE_MAX.as_nanos() / 2);
    assert_eq!(machine.deadline(), Some(START + RECEIPT_IDLE_MAX));
    let piece = SnapshotPiece::new(receipt, 0, Bytes::from_static(b"abcd"));
    let verified = machine.on_piece(half, piece).unwrap();
    machine.written(&verified);
    assert!(!machine.expire(START + RECEIPT_IDLE_MAX), "it heard something since");
    assert_eq!(machine.deadline(), Some(half + RECEIPT_IDLE_MAX));
    assert!(machine.expire(half + RECEIPT_IDLE_MAX));
    assert!(!machine.is_receiving());

    let OfferVerdict::Begin(new) = machine.on_offer(START, offer(1, 3, 5, 0)) else { panic!("not begun") };
    let TransferAnswer::Accepted { receipt, .. } = machine.begin(START, new) else { panic!("not accepted") };
    let finish =
        raftwright_traits::transfer::SnapshotFinish { receipt, size: 0, checksum: 0, wait: Span::from_nanos(0) };
    assert!(matches!(machine.on_finish(START, &finish), FinishVerdict::Install(_)));
    assert_eq!(machine.deadline(), None);
    assert!(!machine.expire(Time::from_nanos(u64::MAX)));
    let again = machine.on_offer(START, offer(1, 9, 6, 0));
    assert!(matches!(again, OfferVerdict::Answer(TransferAnswer::Rejected(Rejection::Busy))), "{again:?}");
}

#[test]
fn a_target_that_lies_about_what_it_has_ends_the_transfer() {
    let accepted = |offset, checksum| TransferAnswer::<Config>::Accepted { receipt: ReceiptId(1), offset, checksum };
    let verified = |receipt, offset| TransferAnswer::<Config>::Verified { receipt: ReceiptId(receipt), offset };
    let lies: [&[TransferAnswer<Config>]; 8] = [
        &[accepted(1001, 0)],
        &[accepted(0, 1)],
        &[verified(1, 16)],
        &[accepted(0, 0), accepted(0, 0)],
        &[accepted(0, 0), verified(2, 16)],
        &[accepted(0, 0), verified(1, 0)],
        &[accepted(0, 0), verified(1, 17)],
        &[accepted(0, 0), TransferAnswer::Installing(ReceiptId(1))],
    ];
    for answers in lies {
        let mut sending = Sending::new(offer(1, 3, 5, 1000), vec![7; 1000]);
        for answer in answers {
            (0..20).for_each(|_| assert!(sending.step().is_none()));
            sending.machine.on_answer(answer.clone());
        }
        let over = sending.step();
        assert!(matches!(over, Some(TransferOutcome::Confused(_))), "{answers:?}: {over:?}");
    }
    // One that claims to have other bytes is asked to begin anew, and must.
    let mut sending = Sending::new(offer(1, 3, 5, 1000), vec![7; 1000]);
    sending.step();
    sending.machine.on_answer(accepted(500, 1));
    (0..20).for_each(|_| assert!(sending.step().is_none()));
    let Some(TransferRequest::Offer(offer)) = sending.requests.pop_back() else { panic!("no offer") };
    assert!(offer.anew);
    sending.machine.on_answer(accepted(500, 1));
    assert!(matches!(sending.step(), Some(TransferOutcome::Confused(_))));
}

#[test]
fn nothing_that_anybody_says_out_of_turn_is_believed() {
    let (mut ended, mut verified) = (0, 0);
    for seed in 0..3000 {
        let mut random = Random(seed);
        let mut receiving = Receiving::new(0);
        let mut sending = Sending::new(offer(1, 3, 5, 200), random.bytes(200));
        // Small numbers, so that some of them are right.
        for _ in 0..60 {
            let receipt = ReceiptId(random.below(4));
            let request = match random.below(4) {
                0 => TransferRequest::Offer(offer(random.below(2), random.below(4), random.below(3), random.below(40))),
                1 => TransferRequest::Finish(raftwright_traits::transfer::SnapshotFinish {
                    receipt,
                    size: random.below(40),
                    checksum: 0,
                    wait: Span::from_nanos(0),
                }),
                _ => {
                    let (offset, len) = (random.below(3) * 8, random.below(3) * 8);
                    let offset = if random.one_in(20) { u64::MAX - offset } else { offset };
                    let mut piece =
                        TransferRequest::Piece(SnapshotPiece::new(receipt, offset, random.bytes(len.max(1)).into()));
                    if random.one_in(10) {
                        damage(&mut piece, &mut random);
                    }
                    piece
                }
            };
            let answer = receiving.answer(request);
            verified += u64::from(matches!(answer, TransferAnswer::Verified { .. }));
            let answer = match random.below(5) {
                0 => TransferAnswer::Accepted { receipt, offset: random.below(3) * 16, checksum: 0 },
                1 | 2 => TransferAnswer::Verified { receipt, offset: random.below(14) * 16 },
                3 => TransferAnswer::Installing(receipt),
                _ => answer,
            };
            ended += u64::from(sending.step().is_some());
            (0..random.below(4)).for_each(|_| {
                sending.step();
            });
            if random.one_in(2) {
                sending.machine.on_answer(answer);
            }
            if random.one_in(8) {
                sending.cut();
            }
        }
        // Only an empty content has the checksum that everybody claims.
        assert!(receiving.installed.iter().all(Vec::is_empty), "seed {seed}");
    }
    assert!(ended > 1000 && verified > 1000, "{ended} {verified}");
}

#[test]
fn a_throttle_lets_a_burst_and_then_the_rate_through() {
    // A thousand bytes a second, a hundred at once.
    let mut throttle = Throttle::new(1000, 100);
    let at = |millis: u64| Time::from_nanos(millis * 1_000_000);
    let mut now = at(5000);
    assert_eq!(throttle.take(now, 100), now, "the burst");
    for sent in 1..=1000 {
        let turn = throttle.take(now, 10);
        assert_eq!(turn, at(5000 + sent * 10), "ten bytes are ten milliseconds");
        now = turn;
    }
    // Whoever comes late does not get what was not used, but for a burst.
    now = at(60_000);
    assert_eq!(throttle.take(now, 100), now);
    assert_eq!(throttle.take(now, 50), at(60_050));
    // A single thing larger than a burst goes when it is paid for.
    assert_eq!(throttle.take(now, 1000), at(61_050));
    throttle.set_rate(0, 0);
    assert_eq!(throttle.take(now, u64::MAX), now, "no bound");
    let mut slow = Throttle::new(1, 0);
    assert_eq!(slow.take(now, u64::MAX), Time::from_nanos(u64::MAX), "and no overflow");
    assert_eq!(slow.take(now, u64::MAX), Time::from_nanos(u64::MAX));
}

/// A content longer than any file can be is refused before a place is made for it.
#[test]
fn an_offer_of_more_than_a_file_can_hold_is_refused() {
    const MAX: u64 = i64::MAX as u64;
    for (size, taken) in [(0, true), (MAX, true), (MAX + 1, false), (u64::MAX, false)] {
        let mut receiver = SnapshotReceiver::<Config>::new(ReceiptId(1));
        match receiver.on_offer(START, offer(1, 1, 10, size)) {
            OfferVerdict::Begin(_) => assert!(taken, "{size} bytes"),
            OfferVerdict::Answer(answer) => {
                assert!(!taken, "{size} bytes");
                assert_eq!(answer, TransferAnswer::Rejected(Rejection::Malformed));
            }
        }
    }
}
