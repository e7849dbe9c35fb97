//! A registered bot, what Telegram knows of it, and requests as Telegram sends them.

use std::fmt::Display;

use simulated_telegram::{Bot, Telegram};

use super::{Home, Pihook, SOON, TOKEN, start};

pub struct Scene {
    pub pihook: Pihook,
    // The folder goes after the program that uses it.
    _home: Home,
    pub telegram: Telegram,
    pub bot: Bot,
    /// What Telegram shows with every call.
    pub secret: String,
}

pub fn scene() -> Scene {
    Scene::of(start())
}

impl Scene {
    pub fn of((telegram, bot, home, pihook): (Telegram, Bot, Home, Pihook)) -> Scene {
        let secret = bot.wait_call("setWebhook", 1, SOON).unwrap()[0].text("secret_token");
        Scene {
            pihook,
            _home: home,
            telegram,
            bot,
            secret,
        }
    }

    /// A request as Telegram sends it, with these changes to the headers.
    pub fn request(&self, body: &str, change: impl Fn(&str) -> String) -> Vec<u8> {
        (change(&self.head(body.len())) + body).into_bytes()
    }

    pub fn head(&self, length: impl Display) -> String {
        format!(
            "POST /{TOKEN}/ HTTP/1.1\r\nHost: 80.100.95.20:8443\r\nX-Telegram-Bot-Api-Secret-Token: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n",
            self.secret
        )
    }

    pub fn good(&self) -> Vec<u8> {
        self.request("{\"update_id\":1}", str::to_owned)
    }
}
