//! A random run of whole nodes: the world, its clients, and what goes wrong in it.

use core::time::Duration;

use super::clients::{Answers, Client};
use super::nemesis::{Deed, Nemesis};
use super::profile::NodeProfile;
use super::workload::Workload;
use super::world::NodeWorld;
use crate::checkers::Broken;
use crate::core_world::cluster::Failure;
use crate::core_world::trace::Kind;
use crate::lin::History;
use crate::shrink::Omit;
use crate::world::{EventQueue, NodeId, Rng, SimTime};

/// Something that the run itself does.
#[derive(Debug, Clone)]
pub(super) enum Due {
    /// A client begins its next operation.
    Begin(usize),
    /// A client asks once more.
    Again(usize, u64),
    /// A client gives up.
    GiveUp(usize, u64),
    /// Something goes wrong, or is right again.
    Deed(Deed),
}

/// A run.
#[derive(Debug)]
pub struct Drive<W: Workload> {
    /// The world.
    pub world: NodeWorld<W>,
    /// What kind of run it is.
    pub profile: NodeProfile,
    pub(super) queue: EventQueue<Due>,
    pub(super) clients: Vec<Client<W>>,
    pub(super) answers: Answers<W::Ret>,
    /// What the clients saw.
    pub(super) history: History<W::Op, W::Ret>,
    pub(super) stamp: u64,
    /// Operations that clients began.
    pub(super) begun: u64,
    /// Operations that were answered.
    pub answered: u64,
    pub(super) nemesis: Nemesis,
    pub(super) omit: Omit,
    /// What is broken, if anything.
    pub failure: Option<Failure>,
    /// Whether clients begin further operations.
    pub clients_active: bool,
}

impl<W: Workload> Drive<W> {
    /// All servers are blank and down.
    pub fn new(seed: u64, profile: NodeProfile, workload: W, stores: W::Stores, omit: Omit, record: bool) -> Self {
        let mut rng = Rng::new(seed ^ 0x6e6f_6465);
        let mut world = NodeWorld::of(rng.next_u64(), workload, stores);
        if record {
            world.record();
        }
        world.config = profile.config.clone();
        world.flush = profile.flush;
        let clients = (1..=profile.clients).map(|number| Client::new(number, rng.fork(number))).collect();
        Self {
            world,
            queue: EventQueue::default(),
            clients,
            answers: Answers::default(),
            history: History::new(),
            stamp: 0,
            begun: 0,
            answered: 0,
            nemesis: Nemesis::new(rng.fork(0), record),
            omit,
            failure: None,
            clients_active: true,
            profile,
        }
    }

    /// How many operations clients began.
    pub fn operations(&self) -> u64 {
        self.begun
    }

    /// The present moment.
    pub fn now(&self) -> SimTime {
        self.world.now()
    }

    /// All servers, up or down.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<W> {
        1..=self.profile.voters + self.profile.spares
    }

    pub(super) fn note(&mut self, node: NodeId, kind: &'static str, number: u64, text: impl FnOnce() -> String) {
        let now = self.now();
        self.world.trace.note(now, node, Kind(kind), [number, 0], text);
    }

    /// Something is broken; what comes after does not count.
    pub fn fail(&mut self, property: &'static str, source: &'static str, what: String) {
        self.broken(Broken { property, source, what });
    }

    fn broken(&mut self, broken: Broken) {
        self.note(0, "BROKEN", 0, || broken.to_string());
        let at = self.now();
        self.failure.get_or_insert(Failure { at, broken });
    }

    pub(super) fn later(&mut self, after: Duration, due: Due) {
        self.queue.push(self.world.now().after(after), due);
    }

    /// Lets time pass.
    pub fn run_until(&mut self, until: SimTime) {
        while self.failure.is_none() {
            let mine = self.queue.next_at().filter(|at| *at <= until);
            let stop = mine.unwrap_or(until);
            match self.world.step(stop) {
                Err(broken) => return self.broken(broken),
                Ok(happened) => {
                    self.hear_answers();
                    self.attend_the_fallen();
                    if happened {
                        continue;
                    }
                }
            }
            match mine {
                Some(_) => {
                    if let Some((_, due)) = self.queue.pop() {
                        self.handle(due);
                    }
                }
                None => return,
            }
        }
    }

    fn handle(&mut self, due: Due) {
        match due {
            Due::Begin(client) => self.begin_operation(client),
            Due::Again(client, number) => self.ask_again(client, number),
            Due::GiveUp(client, number) => self.give_up(client, number),
            Due::Deed(deed) => self.commit_deed(deed),
        }
    }
}
