//! A simulated Telegram.
