//! A map bounded by its number of entries and their total weight, which evicts the least recently
//! used entry first. Every operation but one takes constant time.

use std::collections::HashMap;
use std::hash::Hash;

/// Ends the linked list.
const NIL: usize = usize::MAX;

/// Indices in `slots` form a doubly linked list from the most to the least recently used entry.
#[derive(Debug)]
pub struct Lru<K, V> {
    index: HashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    free: Vec<usize>,
    newest: usize,
    oldest: usize,
    weight: usize,
    max_entries: usize,
    max_weight: usize,
}

#[derive(Debug)]
struct Slot<K, V> {
    /// `None` while the slot is in `free`.
    content: Option<(K, V)>,
    weight: usize,
    newer: usize,
    older: usize,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    pub fn new(max_entries: usize, max_weight: usize) -> Self {
        Self {
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            newest: NIL,
            oldest: NIL,
            weight: 0,
            max_entries,
            max_weight,
        }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// Returns the value and marks it as used.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.index.get(key)?;
        self.unlink(at);
        self.link_newest(at);
        self.slots[at].content.as_mut().map(|(_, value)| value)
    }

    /// Adds or replaces an entry, and returns how many entries were evicted. An entry heavier than
    /// the whole map is not kept and counts as evicted.
    pub fn insert(&mut self, key: K, value: V, weight: usize) -> usize {
        self.remove(&key);
        if weight > self.max_weight || self.max_entries == 0 {
            return 1;
        }
        let mut evicted = 0;
        while self.index.len() >= self.max_entries || self.weight + weight > self.max_weight {
            if !self.remove_oldest() {
                break;
            }
            evicted += 1;
        }
        let slot = Slot { content: Some((key.clone(), value)), weight, newer: NIL, older: NIL };
        let at = if let Some(at) = self.free.pop() {
            self.slots[at] = slot;
            at
        } else {
            self.slots.push(slot);
            self.slots.len() - 1
        };
        self.index.insert(key, at);
        self.weight += weight;
        self.link_newest(at);
        evicted
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.index.remove(key)?;
        self.unlink(at);
        self.weight -= self.slots[at].weight;
        self.free.push(at);
        self.slots[at].content.take().map(|(_, value)| value)
    }

    /// Recomputes all weights, and removes entries for which `weight` returns `None`. Takes time
    /// linear in the size of the map.
    pub fn weigh(&mut self, mut weight: impl FnMut(&mut V) -> Option<usize>) {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            let Some((key, value)) = &mut slot.content else { continue };
            if let Some(weight) = weight(value) {
                self.weight = self.weight - slot.weight + weight;
                slot.weight = weight;
            } else {
                let key = key.clone();
                self.remove(&key);
            }
        }
    }

    fn remove_oldest(&mut self) -> bool {
        let Some(slot) = self.slots.get(self.oldest) else { return false };
        let Some((key, _)) = &slot.content else { return false };
        let key = key.clone();
        self.remove(&key).is_some()
    }

    fn unlink(&mut self, at: usize) {
        let (newer, older) = (self.slots[at].newer, self.slots[at].older);
        match self.slots.get_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, at: usize) {
        let second = self.newest;
        self.slots[at].newer = NIL;
        self.slots[at].older = second;
        match self.slots.get_mut(second) {
            Some(slot) => slot.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peek<K: Copy + Hash + Eq, V>(map: &Lru<K, V>, key: K) -> Option<&V> {
        let at = *map.index.get(&key)?;
        map.slots[at].content.as_ref().map(|(_, value)| value)
    }

    #[test]
    fn the_least_recently_used_entry_leaves_first() {
        let mut map = Lru::new(2, 100);
        map.insert("a", 1, 1);
        map.insert("b", 2, 1);
        assert_eq!(map.get(&"a"), Some(&mut 1));
        assert_eq!(map.insert("c", 3, 1), 1);
        assert_eq!((peek(&map, "a"), peek(&map, "b"), peek(&map, "c")), (Some(&1), None, Some(&3)));
    }

    #[test]
    fn weight_is_bounded_just_below_at_and_above_the_limit() {
        for (weight, kept) in [(9, true), (10, true), (11, false)] {
            let mut map = Lru::new(10, 10);
            map.insert("only", (), weight);
            assert_eq!(peek(&map, "only").is_some(), kept, "{weight}");
        }
        let mut map = Lru::new(10, 10);
        map.insert("a", (), 6);
        assert_eq!(map.insert("b", (), 4), 0);
        assert_eq!(map.insert("c", (), 1), 1);
        assert_eq!((map.len(), map.weight()), (2, 5));
    }

    #[test]
    fn what_is_weighed_anew_grows_lighter_or_leaves() {
        let mut map = Lru::new(10, 10);
        for (key, weight) in [("a", 3), ("b", 3), ("c", 4)] {
            map.insert(key, weight, weight);
        }
        map.weigh(|value| (*value == 3).then_some(1));
        assert_eq!((map.len(), map.weight(), peek(&map, "c")), (2, 2, None));
        assert_eq!(map.insert("d", 8, 8), 0);
    }

    proptest! {
        /// Compares with a naive list.
        #[test]
        fn it_holds_what_a_plain_list_would(operations in prop::collection::vec((0u8..12, 0usize..5, 0u8..3), 0..200)) {
            let mut map = Lru::new(5, 12);
            let mut list: Vec<(u8, usize)> = Vec::new();
            for (key, weight, operation) in operations {
                match operation {
                    0 => {
                        map.insert(key, weight, weight);
                        list.retain(|(own, _)| *own != key);
                        while list.len() >= 5 || list.iter().map(|(_, w)| w).sum::<usize>() + weight > 12 {
                            list.remove(0);
                        }
                        list.push((key, weight));
                    }
                    1 => {
                        let found = map.get(&key).copied();
                        let at = list.iter().position(|(own, _)| *own == key);
                        prop_assert_eq!(found, at.map(|at| list[at].1));
                        if let Some(at) = at {
                            let entry = list.remove(at);
                            list.push(entry);
                        }
                    }
                    _ => {
                        let expected = list.iter().position(|(own, _)| *own == key).map(|at| list.remove(at).1);
                        prop_assert_eq!(map.remove(&key), expected);
                    }
                }
                prop_assert_eq!(map.len(), list.len());
                prop_assert_eq!(map.weight(), list.iter().map(|(_, w)| w).sum::<usize>());
                for (key, weight) in &list {
                    prop_assert_eq!(peek(&map, *key), Some(weight));
                }
            }
        }
    }
}
