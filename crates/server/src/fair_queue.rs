//! A bounded number of places, and a queue before them in which those who ask take turns: who
//! asks for much waits behind his own, not before others. Some places are kept for those who
//! hold few, so that nobody's slow queries keep out all others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

tokio::task_local! {
    /// Who asks: the name of a user or token, else an address.
    pub static ASKER: String;
}

/// Who asks for this answer. What goes on after its handler has returned is to be told.
pub fn asker() -> String {
    ASKER.try_with(Clone::clone).unwrap_or_default()
}

/// The queue.
#[derive(Debug)]
pub struct FairQueue {
    state: Mutex<State>,
    waiting_max: usize,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Places that one asker may hold at most.
    own_max: usize,
    /// How many each asker holds.
    held: HashMap<String, usize>,
    waiting: usize,
    /// Those who wait, the next one to be served first, each with what he waits for.
    turns: VecDeque<(String, VecDeque<oneshot::Sender<Place>>)>,
}

/// A place, which the next one gets when it is dropped.
#[derive(Debug)]
pub struct Place {
    /// None once another has it.
    queue: Option<Arc<FairQueue>>,
    asker: String,
}

/// As much waits already as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl FairQueue {
    /// So many places, and so many requests that may wait; one asker takes three quarters of the
    /// places and half of the queue at most.
    pub fn new(places: usize, waiting_max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: places.max(1),
                own_max: (places - places / 4).max(1),
                held: HashMap::new(),
                waiting: 0,
                turns: VecDeque::new(),
            }),
            waiting_max,
        })
    }

    /// Waits for a place. Who stops to wait loses his turn.
    pub async fn place(self: &Arc<Self>) -> Result<Place, Full> {
        let asker = asker();
        let receiver = {
            let mut state = self.state.lock();
            if state.free > 0 && state.may_hold_more(&asker) {
                state.take(&asker);
                return Ok(self.place_of(asker));
            }
            if state.waiting >= self.waiting_max {
                state.forget_gone();
            }
            let turn = state.turns.iter().position(|(name, _)| *name == asker);
            let own = turn.map_or(0, |turn| state.turns[turn].1.len());
            if state.waiting >= self.waiting_max || own >= self.waiting_max.div_ceil(2) {
                return Err(Full);
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting += 1;
            match turn {
                Some(turn) => state.turns[turn].1.push_back(sender),
                None => state.turns.push_back((asker, VecDeque::from([sender]))),
            }
            receiver
        };
        // The queue holds the other end for as long as this one waits.
        receiver.await.map_err(|_| Full)
    }

    fn place_of(self: &Arc<Self>, asker: String) -> Place {
        Place {
            queue: Some(Arc::clone(self)),
            asker,
        }
    }

    /// Gives a place on, or back.
    fn pass_on(self: &Arc<Self>, asker: &str) {
        self.state.lock().give_back(asker);
        loop {
            let (asker, next) = {
                let mut state = self.state.lock();
                let Some(next) = state.next() else {
                    return;
                };
                state.take(&next.0);
                next
            };
            match next.send(self.place_of(asker)) {
                Ok(()) => return,
                Err(mut back) => {
                    // Dropped as it is, it would be passed on once more.
                    back.queue = None;
                    self.state.lock().give_back(&back.asker);
                }
            }
        }
    }
}

impl State {
    fn may_hold_more(&self, asker: &str) -> bool {
        self.held.get(asker).is_none_or(|held| *held < self.own_max)
    }

    fn take(&mut self, asker: &str) {
        self.free -= 1;
        match self.held.get_mut(asker) {
            Some(held) => *held += 1,
            None => _ = self.held.insert(asker.to_owned(), 1),
        }
    }

    fn give_back(&mut self, asker: &str) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(asker) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(asker);
            }
        }
    }

    /// The next in turn of those who may hold more; who has more to wait for goes to the end.
    fn next(&mut self) -> Option<(String, oneshot::Sender<Place>)> {
        let mut turns = self.turns.iter();
        let turn = turns.position(|(asker, _)| self.may_hold_more(asker))?;
        let (asker, mut own) = self.turns.remove(turn)?;
        let next = own.pop_front();
        self.waiting -= usize::from(next.is_some());
        if !own.is_empty() {
            self.turns.push_back((asker.clone(), own));
        }
        Some((asker, next?))
    }

    fn forget_gone(&mut self) {
        for (_, own) in &mut self.turns {
            own.retain(|sender| !sender.is_closed());
        }
        self.turns.retain(|(_, own)| !own.is_empty());
        self.waiting = self.turns.iter().map(|(_, own)| own.len()).sum();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.pass_on(&self.asker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asks(queue: Arc<FairQueue>, asker: &str) -> Result<Place, Full> {
        ASKER.scope(asker.to_owned(), queue.place()).await
    }

    #[tokio::test]
    async fn those_who_ask_take_turns() {
        let queue = FairQueue::new(1, 10);
        let held = asks(Arc::clone(&queue), "a").await.unwrap();
        let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
        for asker in ["a1", "a2", "a3", "b1", "c1", "b2"] {
            let (queue, served) = (Arc::clone(&queue), served.clone());
            tokio::spawn(async move {
                let place = asks(queue, &asker[..1]).await.unwrap();
                served.send(asker).unwrap();
                drop(place);
            });
            tokio::task::yield_now().await;
        }
        drop(held);
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(order.recv().await.unwrap());
        }
        assert_eq!(seen, ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert_eq!(queue.state.lock().free, 1);
    }

    #[tokio::test]
    async fn one_who_gave_up_is_passed_over_and_a_full_queue_says_so() {
        let queue = FairQueue::new(2, 4);
        let first = asks(Arc::clone(&queue), "a").await.unwrap();
        let second = asks(Arc::clone(&queue), "a").await.unwrap();
        assert_eq!(queue.state.lock().held["a"], 2);
        let gone: Vec<_> = (0..2)
            .map(|_| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move { asks(queue, "a").await.is_ok() })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(asks(Arc::clone(&queue), "a").await.unwrap_err(), Full);
        let waits = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { asks(queue, "b").await.is_ok() }
        });
        tokio::task::yield_now().await;
        for task in gone {
            task.abort();
            assert!(task.await.is_err());
        }
        drop(first);
        assert!(waits.await.unwrap());
        drop(second);
        assert_eq!(queue.state.lock().free, 2);
        assert_eq!(queue.state.lock().waiting, 0);
    }

    #[tokio::test]
    async fn one_asker_leaves_places_to_others() {
        let queue = FairQueue::new(4, 10);
        let mut slow = Vec::new();
        for _ in 0..3 {
            slow.push(asks(Arc::clone(&queue), "a").await.unwrap());
        }
        let fourth = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { asks(queue, "a").await.is_ok() }
        });
        tokio::task::yield_now().await;
        for _ in 0..3 {
            drop(asks(Arc::clone(&queue), "b").await.unwrap());
        }
        assert!(!fourth.is_finished());
        slow.pop();
        assert!(fourth.await.unwrap());
        slow.clear();
        let state = queue.state.lock();
        assert_eq!((state.free, state.waiting), (4, 0));
        assert!(state.held.is_empty());
    }
}
