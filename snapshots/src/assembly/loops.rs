//! The loops of a function, from its jumps: a loop is a set of instructions of which each leads to each other.

use std::collections::HashMap;

use iced_x86::{FlowControl, Instruction, Mnemonic};
use petgraph::Direction::Incoming;
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

/// What leads to what, by index.
type Graph = DiGraphMap<usize, ()>;

/// A loop: the indices of its instructions, in order, and what leads to what among them.
#[derive(Clone)]
pub struct Loop {
    nodes: Vec<usize>,
    graph: Graph,
    /// Where it is entered.
    entries: Vec<usize>,
}

/// The outermost loops of a function, in order.
pub fn of(instructions: &[Instruction]) -> Vec<Loop> {
    let index: HashMap<u64, usize> = instructions.iter().enumerate().map(|(i, at)| (at.ip(), i)).collect();
    let mut graph = Graph::new();
    for (i, instruction) in instructions.iter().enumerate() {
        graph.add_node(i);
        let target = || index.get(&instruction.near_branch_target()).copied();
        let (next, jump) = match instruction.flow_control() {
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => (true, None),
            FlowControl::ConditionalBranch => (true, target()),
            FlowControl::UnconditionalBranch => (false, target()),
            // Returns, traps and computed jumps lead nowhere: no kernel has a jump table.
            _ => (false, None),
        };
        let next = (next && i + 1 < instructions.len()).then_some(i + 1);
        for successor in next.into_iter().chain(jump) {
            graph.add_edge(i, successor, ());
        }
    }
    outermost(&graph)
}

fn outermost(graph: &Graph) -> Vec<Loop> {
    let components = tarjan_scc(graph).into_iter();
    let cycles = components.filter(|nodes| nodes.len() > 1 || graph.contains_edge(nodes[0], nodes[0]));
    let mut loops: Vec<_> = cycles
        .map(|mut nodes| {
            nodes.sort_unstable();
            let inside = |node: usize| nodes.binary_search(&node).is_ok();
            let edges = graph.all_edges().filter(|&(from, to, _)| inside(from) && inside(to));
            let is_entry = |node: &usize| graph.neighbors_directed(*node, Incoming).any(|from| !inside(from));
            let mut entries: Vec<_> = nodes.iter().copied().filter(is_entry).collect();
            if entries.is_empty() {
                // Nothing stands before it: the function begins with it.
                entries.push(nodes[0]);
            }
            Loop { graph: edges.map(|(from, to, _)| (from, to)).collect(), entries, nodes }
        })
        .collect();
    loops.sort_by_key(|found| found.nodes[0]);
    loops
}

impl Loop {
    /// The loops inside, in order: those that remain where no iteration leads to the next.
    pub fn inner(mut self) -> Vec<Loop> {
        for entry in self.entries {
            let back: Vec<_> = self.graph.neighbors_directed(entry, Incoming).collect();
            for from in back {
                self.graph.remove_edge(from, entry);
            }
        }
        outermost(&self.graph)
    }

    /// Its instructions without padding.
    pub fn instructions(&self, all: &[Instruction]) -> Vec<Instruction> {
        self.nodes
            .iter()
            .map(|&i| all[i])
            .filter(|instruction| instruction.mnemonic() != Mnemonic::Nop)
            .collect()
    }
}
