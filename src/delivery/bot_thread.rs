//! The delivery of one bot's updates, a thread: it keeps the webhook, or it polls, as it is told. A
//! webhook is set only once what was polled is dealt with.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::look_turns::LookTurns;
use super::monitor::{Callbacks, Keeper};
use super::policy::Seen;
use super::poller::{PollEvent, PollSettings, Poller};
use super::registration::Registration;
use super::token_conflict::Contest;

/// Before a thread that cannot be started is tried again.
const START_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Nothing is to be done.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What the thread is to do from now on.
pub(crate) enum Order {
    /// Keep this webhook. With true, set it also if Telegram has it already.
    Webhook(Registration, bool),
    /// Poll. The webhook that would be ours is this one, if a host is known for it.
    Poll(Option<Registration>),
    /// Deal with what was polled, take nothing new, and drop this then.
    End(Sender<()>),
}

enum Message {
    Order(Order),
    /// See at once how it is.
    Look,
    /// Of the poller with this number.
    Polled(u64, PollEvent),
}

/// The other end of the thread.
pub(crate) struct BotDelivery(Sender<Message>);

impl BotDelivery {
    /// Starts the thread. It looks at the webhook at its `turns`, and at least once in each
    /// `interval`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(
        settings: PollSettings,
        interval: Duration,
        turns: LookTurns,
        callbacks: Callbacks,
    ) -> io::Result<Self> {
        let (sender, messages) = mpsc::channel();
        let news = sender.clone();
        callbacks.observations.on_news(move || {
            let _ = news.send(Message::Look);
        });
        let name = format!("bot {}", settings.client.bot());
        let mut delivery = Delivery {
            settings: Arc::new(settings),
            callbacks,
            interval,
            turns,
            contest: Contest::new(interval),
            now: Now::Nothing,
            next: None,
            pollers: 0,
            sender: sender.clone(),
        };
        thread::Builder::new()
            .name(name)
            .spawn(move || delivery.run(&messages))?;
        Ok(Self(sender))
    }

    /// Gives an order. Of two that wait, the later one counts.
    pub(crate) fn order(&self, order: Order) {
        // The thread lives as long as the program.
        let _ = self.0.send(Message::Order(order));
    }
}

struct Delivery {
    settings: Arc<PollSettings>,
    callbacks: Callbacks,
    interval: Duration,
    turns: LookTurns,
    contest: Contest,
    now: Now,
    /// What is to be done when nothing that was polled is in flight.
    next: Option<Order>,
    pollers: u64,
    sender: Sender<Message>,
}

enum Now {
    Nothing,
    Webhook(Box<Keeper>),
    Polling(Box<Poller>),
}

impl Delivery {
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            let pause = self.step();
            match messages.recv_timeout(pause) {
                Ok(message) => {
                    self.take(message);
                    messages.try_iter().for_each(|message| self.take(message));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match (message, &mut self.now) {
            (Message::Order(Order::Poll(registration)), Now::Polling(poller))
                if self.next.is_none() =>
            {
                registration
                    .into_iter()
                    .for_each(|registration| poller.know(registration));
            }
            (Message::Order(order), _) => self.next = Some(order),
            (Message::Polled(number, event), Now::Polling(poller)) if number == self.pollers => {
                poller.take(event, &mut self.contest);
            }
            (Message::Look, Now::Webhook(keeper)) => keeper.look_now(),
            // A poller that is gone; and one that polls sees for itself.
            (Message::Polled(..) | Message::Look, _) => {}
        }
    }

    /// Returns how long to wait for the next step.
    fn step(&mut self) -> Duration {
        if self.next.is_some() {
            if let Now::Polling(poller) = &mut self.now {
                poller.stop();
                if !poller.is_idle() {
                    return NEVER;
                }
            }
            if let Now::Polling(poller) = std::mem::replace(&mut self.now, Now::Nothing) {
                poller.end();
            }
        }
        match self.next.take() {
            None => {}
            Some(Order::Webhook(registration, must_set)) => {
                self.now = Now::Webhook(Box::new(Keeper::new(
                    registration,
                    self.interval,
                    self.turns,
                    must_set,
                )));
            }
            Some(Order::Poll(registration)) => match self.poller(registration.clone()) {
                Ok(poller) => self.now = Now::Polling(Box::new(poller)),
                Err(why) => {
                    log::error!("pihook could not start a thread: {why}. pihook tries again.");
                    self.next = Some(Order::Poll(registration));
                    return START_RETRY_INTERVAL;
                }
            },
            Some(Order::End(done)) => drop(done),
        }
        let Self {
            callbacks,
            contest,
            settings,
            ..
        } = self;
        match &mut self.now {
            Now::Nothing => NEVER,
            Now::Webhook(keeper) => keeper.step(callbacks, &settings.me, contest),
            Now::Polling(poller) => poller.step(contest, &|| (callbacks.seen)(Seen::OwnWebhook)),
        }
    }

    fn poller(&mut self, registration: Option<Registration>) -> io::Result<Poller> {
        self.pollers += 1;
        let (number, sender) = (self.pollers, self.sender.clone());
        let send = move |event| {
            let _ = sender.send(Message::Polled(number, event));
        };
        Poller::start(Arc::clone(&self.settings), registration, send)
    }
}
