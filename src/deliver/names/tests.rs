//! What is remembered of names.

use super::*;

fn names() -> Names {
    // A name server that nobody runs: TEST-NET-1.
    Names::new(&["192.0.2.1:53".parse().unwrap()], Duration::from_secs(5), Duration::from_mins(5))
}

#[test]
fn answers_are_kept_by_their_ttl_within_bounds() {
    let names = names();
    let found = |ttl| Asked::Found((vec![[192, 0, 2, 7].into()], Duration::from_secs(ttl)));
    let table = [
        (found(0), true, 1, false),
        (found(60), true, 60, false),
        (found(86_400), true, 300, false),
        (Asked::Found((Vec::new(), Duration::from_mins(1))), false, 1, false),
        (Asked::None("no".into()), false, 1, false),
        (Asked::Silence, false, 1, true),
    ];
    for (asked, is_found, seconds, is_silent) in table {
        let (answer, kept, silent) = names.0.judge(asked);
        assert_eq!((answer.is_ok(), kept, silent), (is_found, Duration::from_secs(seconds), is_silent));
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let answered = |until| Known::Answered { answer: Err(Unresolved::Busy), until, was_silent: false };
    let full = |until| (0..REMEMBERED).map(|n| (n.to_string(), answered(until))).collect::<HashMap<_, _>>();
    let mut old = full(Duration::ZERO);
    old.insert("in use".into(), answered(Duration::MAX));
    make_room(&mut old);
    assert_eq!(old.into_keys().collect::<Vec<_>>(), ["in use"]);
    let mut all_in_use = full(Duration::MAX);
    make_room(&mut all_in_use);
    assert_eq!(all_in_use.len(), REMEMBERED / 2);
}

#[tokio::test]
async fn what_the_hosts_file_names_is_asked_of_nobody() {
    let addresses = names().resolve("localhost").await.unwrap();
    assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
}
