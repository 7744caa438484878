//! What a scenario file says.

use core::time::Duration;

use crate::world::NodeId;

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scenario {
    /// Its commands in order.
    pub statements: Vec<Statement>,
}

impl Scenario {
    /// The seed that the file names, if it does. The last one counts.
    pub fn seed(&self) -> Option<u64> {
        self.statements.iter().rev().find_map(|statement| match statement.command {
            Command::Seed(seed) => Some(seed),
            _ => None,
        })
    }
}

/// A command and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its line, counted from 1.
    pub line: usize,
    /// What to do.
    pub command: Command,
}

/// A node, named by its id or as the present leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRef {
    /// That node.
    Id(NodeId),
    /// Whoever leads now.
    Leader,
}

/// One node or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One.
    Node(NodeRef),
    /// All that the command fits: all running ones for a crash, all that are down for a restart.
    All,
}

/// A pair of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// One end; the sender if `both` is false.
    pub from: NodeRef,
    /// The other end.
    pub to: NodeRef,
    /// Whether both directions are meant.
    pub both: bool,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `seed 7`
    Seed(u64),
    /// `config election_timeout=150ms..300ms pre_vote=true`
    Config(Vec<ConfigSetting>),
    /// `cluster 1,2,3`
    Cluster(Vec<NodeId>),
    /// `start 4`
    Start(NodeId),
    /// `run 500ms`
    Run(Duration),
    /// `until leader within 5s`
    Until {
        /// What to wait for.
        condition: Condition,
        /// For how long; by default [`UNTIL_DEFAULT`].
        within: Option<Duration>,
    },
    /// `partition 1,2 | 3`
    Partition(Vec<Vec<NodeRef>>),
    /// `cut 1 -> 2`
    Cut(Link),
    /// `heal`, `heal 1 - 2`
    Heal(Option<Link>),
    /// `delay 1 - 2 80ms` and its like
    LinkChange {
        /// Where.
        link: Link,
        /// What.
        change: LinkChange,
    },
    /// `crash 2`
    Crash(Target),
    /// `powerloss 2`
    PowerLoss(Target),
    /// `restart 2`
    Restart(Target),
    /// `wipe 2`
    Wipe(NodeRef),
    /// `pause 2`
    Pause(Target),
    /// `resume 2`
    Resume(Target),
    /// `disk 2 hang`
    Disk {
        /// Whose.
        node: NodeRef,
        /// How it behaves from now on.
        state: DiskState,
    },
    /// `corrupt 2 log 12`
    Corrupt {
        /// Whose disk.
        node: NodeRef,
        /// Which entry.
        index: u64,
    },
    /// `clock 2 rate 1.05`
    ClockRate {
        /// Whose.
        node: NodeRef,
        /// Local microseconds in a true second.
        ppm: u64,
    },
    /// `clock 2 jump 3s`
    ClockJump {
        /// Whose.
        node: NodeRef,
        /// How far ahead.
        ahead: Duration,
    },
    /// An operation that runs to its end: `write 1 a=1`
    Do {
        /// What is asked.
        call: OperationCall,
        /// How it must end.
        ending: Ending,
    },
    /// `begin w1 write 1 b=1`
    Begin {
        /// The name by which `end` finds it.
        name: String,
        /// What is asked.
        call: OperationCall,
    },
    /// `end w1 ok`
    End {
        /// The name that `begin` gave.
        name: String,
        /// How it must end.
        expected: Expected,
    },
    /// `elect 2`
    Elect(NodeRef),
    /// `mark`
    Mark,
    /// `expect ...`
    Expect(Condition),
}

/// How long `until` waits if the file does not say.
pub const UNTIL_DEFAULT: Duration = Duration::from_secs(10);

/// How long a client operation may take if the file does not say.
pub const OPERATION_DEADLINE_DEFAULT: Duration = Duration::from_secs(5);

/// How long `leader` as the name of a node waits for one.
pub const LEADER_WAIT_MAX: Duration = Duration::from_secs(10);

/// One `name=value` of a `config` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSetting {
    /// The field.
    pub name: String,
    /// Its value.
    pub value: ConfigValue,
}

/// A value of a configuration field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigValue {
    /// `150ms..300ms`
    Range(Duration, Duration),
    /// `50ms`
    Time(Duration),
    /// `true`
    Flag(bool),
    /// `never`
    Never,
    /// `64`
    Number(u64),
    /// Any other word.
    Word(String),
}

/// What is changed about a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    /// Each message takes that long.
    Delay(Duration),
    /// Messages in a million that are lost.
    Loss(u32),
    /// Messages in a million that arrive twice.
    Duplicate(u32),
    /// Whether messages may overtake each other.
    Reorder(bool),
}

/// How a disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// As it should.
    Ok,
    /// Flushes never complete.
    Hang,
    /// The next flush fails.
    Fail,
    /// Writes fail for lack of space.
    Full,
}

/// Something that a client or an operator asks for, and that has an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationCall {
    /// What.
    pub operation: Operation,
    /// For how long; by default [`OPERATION_DEADLINE_DEFAULT`].
    pub within: Option<Duration>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `write 1 a=1`
    Write {
        /// At which node.
        node: NodeRef,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// `read 2 a = 1 via lease`
    Read {
        /// At which node.
        node: NodeRef,
        /// The key.
        key: String,
        /// What must be found: `Some(None)` for nothing. `None` if the file does not say.
        expected: Option<Option<String>>,
        /// By which way.
        via: ReadVia,
    },
    /// `transfer leader to 3`
    Transfer {
        /// Who gives way.
        from: NodeRef,
        /// Who shall lead.
        to: NodeRef,
    },
    /// `snapshot 1`
    Snapshot(NodeRef),
    /// `purge 1 to 10`
    Purge {
        /// Whose log.
        node: NodeRef,
        /// The last index to go.
        to: u64,
    },
    /// `add-learner 4`
    AddLearner {
        /// The node.
        node: NodeId,
        /// Whether to go on before it has caught up.
        nowait: bool,
    },
    /// `members 1,2,4`
    Members {
        /// The voters to be.
        voters: Vec<NodeId>,
        /// Whether removed voters stay as learners.
        retain: bool,
    },
}

/// By which way a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadVia {
    /// A round to a quorum (Thesis §6.4).
    #[default]
    ReadIndex,
    /// The leader's lease (Thesis §6.4.1).
    Lease,
    /// A follower that asks the leader for a read index.
    Follower,
    /// Whatever the node has: not linearizable.
    Stale,
}

/// How an operation that the file waits for must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Successfully.
    Ok,
    /// `fails ...`
    Fails(Failure),
}

/// How a failure must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// `fails`: in any way.
    Any,
    /// `fails forward`, `fails forward 1`: the node does not lead, and names the leader.
    Forward(Option<NodeId>),
    /// `fails unknown`: the operation may still take effect.
    Unknown,
    /// `fails busy`: a bound is reached.
    Busy,
}

/// How a begun operation must stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It ends, like this.
    Ended(Ending),
    /// It has not ended.
    Pending,
}

/// Something that is true or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `leader`, `leader 1`, `leader in 2,3`
    Leader(LeaderIs),
    /// `no leader`
    NoLeader,
    /// `role 3 learner`
    Role {
        /// Whose.
        node: NodeRef,
        /// Which.
        role: RoleName,
    },
    /// `same-leader`: since the last mark.
    SameLeader,
    /// `same-term`: since the last mark.
    SameTerm,
    /// `applied 2 >= 5`
    Number {
        /// Which number.
        number: Number,
        /// Whose.
        node: NodeRef,
        /// How it must compare.
        comparison: Comparison,
        /// With what.
        to: u64,
    },
    /// `value 3 a = 1`
    Value {
        /// Whose.
        who: Target,
        /// The key.
        key: String,
        /// The value; `None` if it must be absent.
        value: Option<String>,
    },
    /// `voters 1 = 1,2,3 & 1,2,4`
    Voters {
        /// On which node.
        node: NodeRef,
        /// One set, or two while the membership is joint.
        sets: Vec<Vec<NodeId>>,
    },
    /// `learners 1 = 4`; `learners 1 = none`
    Learners {
        /// On which node.
        node: NodeRef,
        /// The learners.
        ids: Vec<NodeId>,
    },
    /// `member 4 voter`
    Member {
        /// The member.
        id: NodeId,
        /// What it must be, as the leader sees it.
        kind: MemberKind,
    },
    /// `agree`
    Agree,
    /// `linearizable`
    Linearizable,
    /// `up 2`
    Up(NodeRef),
    /// `stopped 2`
    Stopped(NodeRef),
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderIs {
    /// Somebody.
    Known,
    /// One of these.
    OneOf(Vec<NodeId>),
}

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleName {
    /// Not a voter.
    Learner,
    /// A voter that follows.
    Follower,
    /// A voter that wants to lead, pre-candidates included.
    Candidate,
    /// The leader.
    Leader,
    /// The node has stopped itself.
    Stopped,
}

/// A number of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// Its term.
    Term,
    /// The last index that its state machine has applied.
    Applied,
    /// Its commit index.
    Committed,
    /// The last index of its log.
    LastLog,
    /// The last index of its snapshot; 0 without one.
    Snapshot,
    /// The last index that was deleted from the start of its log; 0 if none was.
    Purged,
}

/// How two numbers compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `<`
    Below,
}

impl Comparison {
    /// Whether `left` compares so with `right`.
    pub fn holds(self, left: u64, right: u64) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::AtLeast => left >= right,
            Comparison::AtMost => left <= right,
            Comparison::Above => left > right,
            Comparison::Below => left < right,
        }
    }
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// It votes.
    Voter,
    /// It only learns.
    Learner,
}
