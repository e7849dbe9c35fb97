//! Many bots on one port: no token, path or secret ever serves another bot.

use crate::common::tls::Tls;
use crate::common::{HOST, Home, OTHER_TOKEN, SOON, TOKEN, settings, telegram};
use simulated_telegram::Telegram;

const THIRD_TOKEN: &str = "700000001:AAzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";

fn three_bots(telegram: &Telegram) -> Home {
    let bots = format!(
        "[[bot]]\ntoken = '{TOKEN}'\n[[bot]]\ntoken_file = 'second'\npath = '/the/second'\n[[bot]]\ntoken = '{THIRD_TOKEN}'\npath = '/x{{token}}'\n"
    );
    let home = Home::with(&settings(&telegram.api_url(), ""), &bots);
    home.write("second", &format!("{OTHER_TOKEN}\n"));
    home
}

#[test]
fn each_bot_answers_its_own_chats() {
    let telegram = telegram();
    let bots = [TOKEN, OTHER_TOKEN, THIRD_TOKEN].map(|token| telegram.bot(token));
    let home = three_bots(&telegram);
    let _pihook = home.run_for(&telegram);
    for number in 0..30 {
        for (index, bot) in bots.iter().enumerate() {
            bot.say(number + 1, &format!("bot {index}, message {number}"));
        }
    }

    for (index, bot) in bots.iter().enumerate() {
        let sent = bot.wait_sent(30, SOON).unwrap();
        assert!(
            sent.iter()
                .all(|sent| sent.text.starts_with(&format!("bot {index},"))),
            "{sent:?}"
        );
        bot.wait_delivered(30, SOON).unwrap();
        assert_eq!(bot.deliveries().len(), 30);
    }
}

#[test]
fn each_bot_has_a_path_and_a_secret_token_of_its_own() {
    let telegram = telegram();
    let bots = [TOKEN, OTHER_TOKEN, THIRD_TOKEN].map(|token| telegram.bot(token));
    let home = three_bots(&telegram);
    let pihook = home.run_for(&telegram);

    let set = bots
        .each_ref()
        .map(|bot| bot.wait_call("setWebhook", 1, SOON).unwrap().remove(0));
    let urls = set.each_ref().map(|call| call.text("url"));
    let secrets = set.each_ref().map(|call| call.text("secret_token"));
    assert_eq!(urls[0], format!("https://{HOST}:8443/{TOKEN}/"));
    assert_eq!(urls[1], format!("https://{HOST}:8443/the/second"));
    assert_eq!(urls[2], format!("https://{HOST}:8443/x{THIRD_TOKEN}"));

    let paths = urls
        .each_ref()
        .map(|url| url.split(":8443").nth(1).unwrap());
    for (bot, path) in paths.iter().enumerate() {
        for (other, secret) in secrets.iter().enumerate() {
            let request = format!(
                "POST {path} HTTP/1.1\r\nX-Telegram-Bot-Api-Secret-Token: {secret}\r\n\
                 Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{{\"update_id\":1}}"
            );
            let status = Tls::connect(pihook.address).ask(request.as_bytes());
            assert_eq!(
                status,
                if bot == other { 200 } else { 403 },
                "path of {bot}, secret of {other}"
            );
        }
    }
}
