//! Whose size the terminal has: the client's that typed or resized last.
//!
//! A client that joins while another is there only says its size; alone, it has it at once if it named one. When the one
//! that has the size leaves, the one that typed or resized before it takes over. With nobody left the size stays. The same
//! client answers the terminal's queries.

use super::log::ClientId;
use berth_keeper_protocol::Size;

#[derive(Debug, Clone, Copy)]
struct Holder {
    client: ClientId,
    size: Size,
    /// The client named its size itself.
    named: bool,
}

/// See the module's text. Clients that only watch are not told to it.
#[derive(Debug, Default)]
pub(super) struct SizePolicy {
    /// The one that acted last is last.
    holders: Vec<Holder>,
}

impl SizePolicy {
    /// A client joined; the size to be set, if any.
    pub(super) fn join(&mut self, client: ClientId, size: Option<Size>) -> Option<Size> {
        let holder = Holder {
            client,
            size: size.unwrap_or_default(),
            named: size.is_some(),
        };
        if self.holders.is_empty() {
            self.holders.push(holder);
            return size;
        }
        self.holders.insert(0, holder);
        None
    }

    /// A client typed.
    pub(super) fn typed(&mut self, client: ClientId) -> Option<Size> {
        self.act(client, |_| {})
    }

    /// A client has another size.
    pub(super) fn resized(&mut self, client: ClientId, size: Size) -> Option<Size> {
        self.act(client, |holder| {
            holder.size = size;
            holder.named = true;
        })
    }

    /// A client left.
    pub(super) fn leave(&mut self, client: ClientId) -> Option<Size> {
        let had = self.holder() == Some(client);
        self.holders.retain(|holder| holder.client != client);
        match self.holders.last() {
            Some(next) if had && next.named => Some(next.size),
            _ => None,
        }
    }

    /// The client whose size holds.
    pub(super) fn holder(&self) -> Option<ClientId> {
        self.holders.last().map(|holder| holder.client)
    }

    fn act(&mut self, client: ClientId, change: impl FnOnce(&mut Holder)) -> Option<Size> {
        let index = self
            .holders
            .iter()
            .position(|holder| holder.client == client)?;
        let mut holder = self.holders.remove(index);
        change(&mut holder);
        self.holders.push(holder);
        Some(holder.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(cols: u16) -> Size {
        Size { cols, rows: 30 }
    }

    #[test]
    fn the_last_to_act_has_the_size() {
        let mut policy = SizePolicy::default();
        assert_eq!(policy.join(1, Some(size(100))), Some(size(100)));
        assert_eq!(policy.join(2, Some(size(80))), None);
        assert_eq!(policy.holder(), Some(1));
        assert_eq!(policy.typed(1), Some(size(100)));
        assert_eq!(policy.typed(2), Some(size(80)));
        assert_eq!(policy.resized(1, size(120)), Some(size(120)));
        assert_eq!(policy.leave(1), Some(size(80)));
        assert_eq!(policy.leave(2), None);
        assert_eq!(policy.holder(), None);
    }

    #[test]
    fn a_client_without_a_size_counts_once_it_types() {
        let mut policy = SizePolicy::default();
        assert_eq!(policy.join(1, None), None);
        assert_eq!(policy.typed(1), Some(Size::default()));
        assert_eq!(policy.join(2, None), None);
        assert_eq!(policy.leave(1), None);
        assert_eq!(policy.holder(), Some(2));
    }

    #[test]
    fn one_that_is_not_known_changes_nothing() {
        let mut policy = SizePolicy::default();
        assert_eq!(policy.typed(9), None);
        assert_eq!(policy.resized(9, size(10)), None);
        assert_eq!(policy.leave(9), None);
    }
}
