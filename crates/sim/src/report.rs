//! A page about one run, for a person: a timeline of the nodes with their roles and terms, faults, elections and commits.
//! One file of HTML that needs nothing else.

use core::fmt::Write;
use std::collections::BTreeMap;

use crate::core_world::Outcome;

/// How many pixels a second takes.
const SECOND: f64 = 26.0;
/// How high a node's lane is.
const LANE: f64 = 46.0;
/// Room for names on the left.
const LEFT: f64 = 64.0;
/// How high the curve of commits is.
const CURVE: f64 = 120.0;
/// Most faults that are listed below the timeline.
const LISTED_MAX: usize = 2_000;

/// One line of a trace.
#[derive(Debug, Clone, PartialEq)]
struct Moment<'a> {
    at: f64,
    node: u64,
    kind: &'a str,
    text: &'a str,
}

/// Reads a line of a trace: moment, node, kind and text stand in fixed columns.
fn moment(line: &str) -> Option<Moment<'_>> {
    let at = line.get(..12)?.trim().parse().ok()?;
    let node = line.get(14..17)?.trim().strip_prefix('n').map_or(Some(0), |id| id.parse().ok())?;
    let (kind, text) = line.get(18..)?.split_at_checked(12).unwrap_or((line.get(18..)?, ""));
    Some(Moment { at, node, kind: kind.trim(), text: text.trim() })
}

/// What a node was for a while.
#[derive(Debug, Clone, PartialEq)]
struct Stretch {
    from: f64,
    to: f64,
    class: &'static str,
    label: String,
}

/// What a lane shows.
#[derive(Debug, Default)]
struct Lane {
    stretches: Vec<Stretch>,
    pauses: Vec<(f64, f64)>,
    open: Option<(f64, &'static str, String)>,
    paused: Option<f64>,
}

impl Lane {
    fn become_now(&mut self, at: f64, class: &'static str, label: String) {
        if let Some((from, class, label)) = self.open.take() {
            self.stretches.push(Stretch { from, to: at, class, label });
        }
        self.open = Some((at, class, label));
    }

    fn resume(&mut self, at: f64) {
        self.pauses.extend(self.paused.take().map(|from| (from, at)));
    }

    fn take(&mut self, moment: &Moment<'_>) {
        match moment.kind {
            "START" => self.become_now(moment.at, "follower", String::new()),
            "DOWN" | "CRASH" | "REFUSED" => {
                self.resume(moment.at);
                self.become_now(moment.at, "down", moment.text.to_owned());
            }
            "WIPED" => self.become_now(moment.at, "wiped", "wiped".to_owned()),
            "ROLE" | "role" => {
                let (class, label) = role(moment.text);
                self.become_now(moment.at, class, label);
            }
            "LEADER" => self.become_now(moment.at, "leader", moment.text.to_owned()),
            "FAULT" if moment.text.starts_with("pause") || moment.text.starts_with("long-pause") => {
                self.paused = self.paused.or(Some(moment.at));
            }
            "RESUME" => self.resume(moment.at),
            _ => {}
        }
    }
}

fn role(text: &str) -> (&'static str, String) {
    let term = text.rsplit("term ").next().unwrap_or_default();
    let class = match text.split_whitespace().next().unwrap_or_default() {
        "Leader" => "leader",
        "Candidate" => "candidate",
        "PreCandidate" => "pre-candidate",
        "Learner" => "learner",
        "Follower" => "follower",
        _ => "stopped",
    };
    (class, if class == "stopped" { text.to_owned() } else { format!("{class}, term {term}") })
}

/// Text as it may stand in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page of a run whose trace was kept. `title` says which run it is.
pub fn page(title: &str, outcome: &Outcome) -> String {
    let moments: Vec<Moment<'_>> = outcome.trace.iter().filter_map(|line| moment(line)).collect();
    let end = outcome.simulated.as_secs_f64().max(0.001);
    let mut lanes: BTreeMap<u64, Lane> = BTreeMap::new();
    for moment in moments.iter().filter(|moment| moment.node > 0) {
        lanes.entry(moment.node).or_default().take(moment);
    }
    for lane in lanes.values_mut() {
        lane.become_now(end, "end", String::new());
        lane.resume(end);
    }
    let mut html = String::new();
    head(&mut html, title, outcome);
    timeline(&mut html, &lanes, &moments, end);
    faults(&mut html, &moments);
    html.push_str("</main></body></html>\n");
    html
}

/// Adds to a page. Writing to a string cannot fail.
macro_rules! add {
    ($html:expr, $($text:tt)*) => {{
        let _ = write!($html, $($text)*);
    }};
}

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2430;--soft:#667085;--paper:#fbfbfa;--line:#e3e5e8;--card:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#98a2b3;--paper:#12161c;--line:#2a313b;--card:#1a2029}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1280px;margin:0 auto;padding:32px 24px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:32px 0 8px}.soft{color:var(--soft)}
.verdict{padding:12px 16px;border-radius:8px;margin:16px 0;border-left:4px solid}
.passed{border-color:#2e9e6b;background:#2e9e6b18}.failed{border-color:#d64545;background:#d6454518}
.facts{display:flex;flex-wrap:wrap;gap:8px 28px;margin:0}.facts div{display:flex;flex-direction:column}
.facts dt{color:var(--soft);font-size:12px}.facts dd{margin:0;font-size:18px;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 0}
svg text{font:11px system-ui,sans-serif;fill:var(--ink)}svg .soft{fill:var(--soft)}svg .grid{stroke:var(--line)}
.leader{fill:#2e9e6b}.follower{fill:#8fb3e0}.candidate{fill:#e8a33d}.pre-candidate{fill:#f3d08a}.learner{fill:#c3b5e3}
.down{fill:#4b5563}.wiped{fill:#111}.stopped{fill:#a33}.pause{fill:#0006}.fault{fill:#d64545}.election{stroke:#2e9e6b}
.curve{fill:none;stroke:#3b7dd8;stroke-width:2}.heal{stroke:#2e9e6b;stroke-dasharray:4 3}.broken{stroke:#d64545}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;margin:8px 0;font-size:13px}.key i{display:inline-block;width:14px;height:10px;border-radius:2px;margin-right:6px}
table{border-collapse:collapse;width:100%;font-size:13px}td{padding:3px 12px 3px 0;border-top:1px solid var(--line);vertical-align:top}
td:first-child{font-variant-numeric:tabular-nums;color:var(--soft);white-space:nowrap}";

fn head(html: &mut String, title: &str, outcome: &Outcome) {
    let title = escaped(title);
    add!(
        html,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>"
    );
    add!(
        html,
        "</head><body><main><h1>{title}</h1><p class=\"soft\">One simulated run, from its seed to its verdict.</p>"
    );
    match &outcome.failure {
        None => add!(html, "<div class=\"verdict passed\">Every property held.</div>"),
        Some(failure) => add!(html, "<div class=\"verdict failed\">{}</div>", escaped(&failure.to_string())),
    }
    html.push_str("<dl class=\"facts\">");
    let facts = [
        ("simulated", format!("{:.1} s", outcome.simulated.as_secs_f64())),
        ("events", outcome.events.to_string()),
        ("elections", outcome.elections.to_string()),
        ("committed entries", outcome.committed.to_string()),
        ("checked operations", outcome.operations.to_string()),
        ("faults", format!("{} of {} kinds", outcome.faults.total(), outcome.faults.kinds())),
        ("trace", format!("{:016x}", outcome.trace_hash)),
    ];
    for (name, value) in facts {
        add!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    html.push_str("</dl>");
}

fn timeline(html: &mut String, lanes: &BTreeMap<u64, Lane>, moments: &[Moment<'_>], end: f64) {
    let x = |at: f64| LEFT + at * SECOND;
    let top = 26.0;
    let row = |node: u64| top + lanes.range(..node).count() as f64 * LANE;
    let bottom = top + lanes.len() as f64 * LANE;
    let (width, height) = (x(end) + 24.0, bottom + CURVE + 34.0);
    html.push_str("<h2>Timeline</h2><div class=\"key\">");
    for class in ["leader", "follower", "candidate", "pre-candidate", "learner", "down", "stopped"] {
        add!(
            html,
            "<span><svg width=\"14\" height=\"10\"><rect width=\"14\" height=\"10\" rx=\"2\" class=\"{class}\"/></svg> {class}</span>"
        );
    }
    add!(html, "<span>shaded: paused</span><span>▼ fault (hover for what)</span></div>");
    add!(html, "<div class=\"scroll\"><svg width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">");
    let step = if end > 120.0 { 10.0 } else { 5.0 };
    for tick in 0..=(end / step) as u64 {
        let at = tick as f64 * step;
        add!(
            html,
            "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{top}\" y2=\"{1:.1}\"/>",
            x(at),
            height - 20.0
        );
        add!(html, "<text class=\"soft\" x=\"{:.1}\" y=\"14\">{at:.0} s</text>", x(at) - 6.0);
    }
    for (node, lane) in lanes {
        let y = row(*node);
        add!(html, "<text x=\"12\" y=\"{:.1}\">node {node}</text>", y + 30.0);
        for Stretch { from, to, class, label } in &lane.stretches {
            let (left, wide) = (x(*from), ((to - from) * SECOND).max(0.7));
            add!(html, "<g><title>{from:.3} s to {to:.3} s: {}</title>", escaped(label));
            add!(
                html,
                "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"18\" rx=\"2\"/>",
                y + 18.0
            );
            if let Some(term) = label.split("term ").nth(1).filter(|term| wide > 9.0 * term.len() as f64 + 6.0) {
                add!(html, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", left + 4.0, y + 31.0, escaped(term));
            }
            html.push_str("</g>");
        }
        for (from, to) in &lane.pauses {
            add!(
                html,
                "<rect class=\"pause\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"18\"/>",
                x(*from),
                y + 18.0,
                (to - from) * SECOND
            );
        }
    }
    for moment in moments {
        marks(html, moment, x(moment.at), if moment.node == 0 { top - 10.0 } else { row(moment.node) }, bottom);
    }
    curve(html, moments, end, bottom + 10.0);
    html.push_str("</svg></div>");
}

fn marks(html: &mut String, moment: &Moment<'_>, x: f64, y: f64, bottom: f64) {
    let text = escaped(moment.text);
    match moment.kind {
        "FAULT" => {
            add!(
                html,
                "<path class=\"fault\" d=\"M{:.1} {:.1}h8l-4 8z\"><title>{:.3} s: {text}</title></path>",
                x - 4.0,
                y + 7.0,
                moment.at
            );
        }
        "HEAL" | "BROKEN" => {
            let class = moment.kind.to_lowercase();
            add!(
                html,
                "<line class=\"{class}\" stroke-width=\"2\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"20\" y2=\"{bottom:.1}\"><title>{class} {text}</title></line>"
            );
        }
        _ => {}
    }
}

/// How far anybody knew the log to be committed, over time.
fn curve(html: &mut String, moments: &[Moment<'_>], end: f64, top: f64) {
    let mut points: Vec<(f64, u64)> = Vec::new();
    for moment in moments.iter().filter(|moment| moment.kind == "commit") {
        let index = moment.text.rsplit(['.', '-']).next().and_then(|index| index.parse().ok()).unwrap_or(0);
        if points.last().is_none_or(|(_, last)| index > *last) {
            points.push((moment.at, index));
        }
    }
    let most = points.last().map_or(1, |(_, index)| (*index).max(1));
    points.push((end, points.last().map_or(0, |(_, index)| *index)));
    let mut path = format!("M{LEFT:.1} {:.1}", top + CURVE);
    for (at, index) in points {
        let _ = write!(path, "H{:.1}V{:.1}", LEFT + at * SECOND, top + CURVE - CURVE * index as f64 / most as f64);
    }
    add!(html, "<path class=\"curve\" d=\"{path}\"><title>committed entries</title></path>");
    add!(
        html,
        "<text class=\"soft\" x=\"4\" y=\"{:.1}\">committed</text><text class=\"soft\" x=\"12\" y=\"{:.1}\">{most}</text>",
        top + CURVE,
        top + 10.0
    );
}

fn faults(html: &mut String, moments: &[Moment<'_>]) {
    let told = |moment: &&Moment<'_>| matches!(moment.kind, "FAULT" | "HEAL" | "LOST" | "BROKEN" | "REFUSED" | "WIPED");
    html.push_str("<h2>What went wrong</h2><table>");
    for moment in moments.iter().filter(told).take(LISTED_MAX) {
        let who = if moment.node == 0 { String::new() } else { format!("node {}", moment.node) };
        let what = if moment.kind == "FAULT" { String::new() } else { format!("{} ", moment.kind.to_lowercase()) };
        add!(html, "<tr><td>{:.3} s</td><td>{who}</td><td>{what}{}</td></tr>", moment.at, escaped(moment.text));
    }
    html.push_str("</table>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core_world::ProfileName;
    use crate::core_world::trace::{Kind, Trace};
    use crate::world::SimTime;

    #[test]
    fn a_line_of_a_trace_is_read_back() {
        let mut trace = Trace::new(true);
        trace.note(SimTime(1_500_000_000), 12, Kind("ROLE"), [0, 0], || "Leader in term 3".to_owned());
        trace.note(SimTime(2_000_000_000), 0, Kind("HEAL"), [0, 0], String::new);
        let moments: Vec<_> = trace.lines().iter().filter_map(|line| moment(line)).collect();
        assert_eq!(moments[0], Moment { at: 1.5, node: 12, kind: "ROLE", text: "Leader in term 3" });
        assert_eq!((moments[1].node, moments[1].kind), (0, "HEAL"));
        assert_eq!(role(moments[0].text), ("leader", "leader, term 3".to_owned()));
    }

    #[test]
    fn a_page_stands_alone_and_shows_every_node() {
        let outcome = crate::node_world::run_seed(1, ProfileName::Calm, true);
        let html = page("seed 1", &outcome);
        for node in
            1..=outcome.trace.iter().filter_map(|line| moment(line)).map(|moment| moment.node).max().unwrap_or(1)
        {
            assert!(html.contains(&format!(">node {node}<")), "node {node}");
        }
        assert!(html.contains("class=\"leader\"") && html.contains("class=\"curve\""));
        for outside in ["http://", "https://", "<script", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
