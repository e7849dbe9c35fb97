//! The thread of one bot: it keeps the webhook registered, or it polls, as it is told. It sets a
//! webhook only once the workers have nothing left of what was polled.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::bot_links::BotLinks;
use super::look_turns::LookTurns;
use super::monitor::WebhookMonitor;
use super::poller::{PollEvent, PollSettings, Poller};
use super::registration::Registration;
use super::token_conflict::TokenConflict;

/// The wait before a poller whose thread could not be started is tried again.
const START_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// The wait when only a message brings something to do.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What the thread is to do from now on.
pub(crate) enum Order {
    /// Keep this webhook registered. With true, set it also if Telegram has it already.
    Webhook(Registration, bool),
    /// Poll. The webhook that would be ours is this one, if a host is known for it.
    Poll(Option<Registration>),
    /// Take no new updates, and drop the sender when those that were polled have ended.
    End(Sender<()>),
}

enum ThreadMessage {
    Order(Order),
    /// Look at the webhook at once.
    Look,
    /// From the poller with this number.
    Polled(u64, PollEvent),
}

/// The other end of the thread.
pub(crate) struct BotThread(Sender<ThreadMessage>);

impl BotThread {
    /// Starts the thread. It looks at the webhook at its `turns`, and at least once in each
    /// `interval`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(
        settings: PollSettings,
        interval: Duration,
        turns: LookTurns,
        links: BotLinks,
    ) -> io::Result<Self> {
        let (sender, messages) = mpsc::channel();
        let looks = sender.clone();
        links.signals.on_news(move || {
            let _ = looks.send(ThreadMessage::Look);
        });

        let name = format!("bot {}", settings.client.bot());
        let mut bot = BotLoop {
            settings: Arc::new(settings),
            links,
            interval,
            turns,
            token_conflict: TokenConflict::new(interval),
            mode: Mode::Idle,
            next: None,
            pollers: 0,
            sender: sender.clone(),
        };
        thread::Builder::new()
            .name(name)
            .spawn(move || bot.run(&messages))?;
        Ok(Self(sender))
    }

    /// Gives an order. Of two that wait, the later one counts.
    pub(crate) fn order(&self, order: Order) {
        // The thread lives as long as the program.
        let _ = self.0.send(ThreadMessage::Order(order));
    }
}

/// What runs in the thread.
struct BotLoop {
    settings: Arc<PollSettings>,
    links: BotLinks,
    interval: Duration,
    turns: LookTurns,
    token_conflict: TokenConflict,
    mode: Mode,
    /// The order to follow when the workers have nothing left of what was polled.
    next: Option<Order>,
    /// The number of the last poller: messages of those before it are ignored.
    pollers: u64,
    /// For the pollers' messages to this thread.
    sender: Sender<ThreadMessage>,
}

enum Mode {
    Idle,
    Webhook(Box<WebhookMonitor>),
    Polling(Box<Poller>),
}

impl BotLoop {
    fn run(&mut self, messages: &Receiver<ThreadMessage>) {
        loop {
            let pause = self.step();
            match messages.recv_timeout(pause) {
                Ok(message) => {
                    self.handle(message);
                    for message in messages.try_iter() {
                        self.handle(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn handle(&mut self, message: ThreadMessage) {
        match (message, &mut self.mode) {
            // It polls already: only the webhook that would be ours can be another one.
            (ThreadMessage::Order(Order::Poll(registration)), Mode::Polling(poller))
                if self.next.is_none() =>
            {
                if let Some(registration) = registration {
                    poller.set_registration(registration);
                }
            }
            (ThreadMessage::Order(order), _) => self.next = Some(order),
            (ThreadMessage::Polled(number, event), Mode::Polling(poller))
                if number == self.pollers =>
            {
                poller.handle(event, &mut self.token_conflict);
            }
            (ThreadMessage::Look, Mode::Webhook(monitor)) => monitor.look_now(),
            // The poller of the message is gone, or a poller needs no look: it calls all the time.
            (ThreadMessage::Polled(..) | ThreadMessage::Look, _) => {}
        }
    }

    /// Does what is to be done. Returns how long to wait for the next step.
    fn step(&mut self) -> Duration {
        if self.next.is_some() && !self.end_mode() {
            return NEVER;
        }
        if let Some(order) = self.next.take()
            && !self.follow(order)
        {
            return START_RETRY_INTERVAL;
        }

        match &mut self.mode {
            Mode::Idle => NEVER,
            Mode::Webhook(monitor) => {
                monitor.step(&self.links, &self.settings.me, &mut self.token_conflict)
            }
            Mode::Polling(poller) => poller.step(&self.links, &mut self.token_conflict),
        }
    }

    /// Ends what the thread does now. False while workers still have updates of the poller: their
    /// end is a message.
    fn end_mode(&mut self) -> bool {
        if let Mode::Polling(poller) = &mut self.mode {
            poller.stop();
            if !poller.is_idle() {
                return false;
            }
        }

        if let Mode::Polling(poller) = mem::replace(&mut self.mode, Mode::Idle) {
            poller.end();
        }
        true
    }

    /// Follows an order. False when no thread could be started for it: then it is the next one
    /// again.
    fn follow(&mut self, order: Order) -> bool {
        match order {
            Order::Webhook(registration, must_set) => {
                let monitor =
                    WebhookMonitor::new(registration, self.interval, self.turns, must_set);
                self.mode = Mode::Webhook(Box::new(monitor));
            }
            Order::Poll(registration) => match self.start_poller(registration.clone()) {
                Ok(poller) => self.mode = Mode::Polling(Box::new(poller)),
                Err(error) => {
                    log::error!("pihook could not start a thread: {error}. pihook tries again.");
                    self.next = Some(Order::Poll(registration));
                    return false;
                }
            },
            Order::End(done) => drop(done),
        }
        true
    }

    fn start_poller(&mut self, registration: Option<Registration>) -> io::Result<Poller> {
        self.pollers += 1;
        let number = self.pollers;
        let sender = self.sender.clone();
        let send = move |event| {
            let _ = sender.send(ThreadMessage::Polled(number, event));
        };
        Poller::start(Arc::clone(&self.settings), registration, send)
    }
}
