//! The statements on tables, as they are sent: one file each below `sql`, by the module that sends it.
//!
//! What several statements share stands once, in `sql/fragments`: where a statement says `{name}`, the fragment of that name
//! is put in when this program is built. A statement's reasons stand beside its clauses; some hold for many of them:
//!
//! | it says | because |
//! |---|---|
//! | `offset 0` in a subquery | A look-up by key stays one, also in a plan that was made while the tables were empty: the planner can't make a join of it. |
//! | `event_id + 0` | It is in the indexes of a line's order and of what waits for a host, and no look-up by key can use those (migration 5). |
//! | `= any($1)` beside a join that says the same | Only the primary key is good for it. `open_event` is often empty, and plans are often made then: a join alone would read all of an index, and go on to do so under load. |
//! | `generate_subscripts` | The planner expects a thousand rows of it (of `unnest`, ten): enough to join by hash instead of comparing each with each. |
//! | a parameter's type, `$1::int8[]` | The server could not tell it otherwise: each statement can be prepared and explained by itself. |
//! | `clock_timestamp()` | The database's clock decides, and a transaction may have waited since it began. |

/// Names the fragments.
macro_rules! fragments {
    ($($name:literal)+) => {
        &[$((concat!($name, "}"), include_str!(concat!("sql/fragments/", $name, ".sql")))),+]
    };
}

/// Parts of statements: by what follows the opening brace.
const FRAGMENTS: &[(&str, &str)] = fragments!(
    "failed_us"
    "heads"
    "is_behind_floor"
    "is_present"
    "is_ready"
    "its_event"
    "open_by_partition"
    "renewal"
    "stored_columns"
);

/// A statement with its fragments put in, as far as there is room, and how much it needs.
const fn put_in<const ROOM: usize>(statement: &str) -> ([u8; ROOM], usize) {
    let (mut whole, mut length) = ([0; ROOM], 0);
    let mut rest = statement.as_bytes();
    while !rest.is_empty() {
        let (part, behind) = next(rest);
        let mut at = 0;
        while at < part.len() {
            if length < ROOM {
                whole[length] = part[at];
            }
            (at, length) = (at + 1, length + 1);
        }
        rest = behind;
    }
    (whole, length)
}

/// What a statement begins with, a byte or a fragment, and what follows it.
const fn next(statement: &[u8]) -> (&[u8], &[u8]) {
    let (first, behind) = statement.split_at(1);
    if first[0] != b'{' {
        return (first, behind);
    }
    let mut at = 0;
    while at < FRAGMENTS.len() {
        let (name, fragment) = FRAGMENTS[at];
        if begins_with(behind, name.as_bytes()) {
            return (fragment.as_bytes(), behind.split_at(name.len()).1);
        }
        at += 1;
    }
    panic!("a statement names a fragment that there is not")
}

const fn begins_with(text: &[u8], start: &[u8]) -> bool {
    let mut at = 0;
    while at < start.len() {
        if at >= text.len() || text[at] != start[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Names the statements: `module { NAME = "file" … }`.
macro_rules! statements {
    ($($module:ident { $($name:ident = $file:literal)+ })+) => {
        $(
            #[doc = concat!("The statements of [`crate::store::", stringify!($module), "`].")]
            pub mod $module {
                $(
                    #[doc = concat!("`sql/", stringify!($module), "/", $file, ".sql`")]
                    pub const $name: &str = {
                        const STATEMENT: &str = include_str!(concat!("sql/", stringify!($module), "/", $file, ".sql"));
                        const LENGTH: usize = super::put_in::<0>(STATEMENT).1;
                        const WHOLE: [u8; LENGTH] = super::put_in(STATEMENT).0;
                        match std::str::from_utf8(&WHOLE) {
                            Ok(statement) => statement,
                            Err(_) => panic!("whole texts make a text"),
                        }
                    };
                )+
            }
        )+

        /// Every statement, by its file below `sql`.
        pub const ALL: &[(&str, &str)] = &[$($((concat!(stringify!($module), "/", $file), $module::$name)),+),+];
    };
}

statements! {
    admit {
        BEGIN_NUMBERING = "begin_numbering"
        INSERT_EVENTS = "insert_events"
        LINES = "lines"
        RECORDED_EVENTS = "recorded_events"
        TAKEN_NUMBERS = "taken_numbers"
    }
    audit {
        CONFIRM_READY = "confirm_ready"
        PAGE = "page"
        REMOVE_ORPHANS = "remove_orphans"
        SUSPECTS = "suspects"
    }
    census {
        COUNT = "count"
    }
    cluster {
        CHANGE_SEQUENCE_FROM = "change_sequence_from"
        CREATE_PARTITIONS = "create_partitions"
        FORGET_COMMITS = "forget_commits"
        READ_SETTINGS = "read_settings"
        RECORD_SETTINGS = "record_settings"
    }
    commits {
        ENTER = "enter"
        LAST = "last"
    }
    gates {
        BEAR = "bear"
        BEARING = "bearing"
        CLAIMABLE = "claimable"
        FORGET = "forget"
        INSERT = "insert"
        IS_KNOWN = "is_known"
        LOCK = "lock"
        NOW = "now"
        PAUSE = "pause"
        PAUSE_GONE = "pause_gone"
        PAUSES = "pauses"
        RESUME = "resume"
        SEEN = "seen"
        STANDING = "standing"
        UPDATE = "update"
        WAITING = "waiting"
    }
    line {
        DUE = "due"
        IN_FLIGHT = "in_flight"
        LEFT_IN_FLIGHT = "left_in_flight"
        OVERDUE = "overdue"
        PARK = "park"
        PARK_HEADS = "park_heads"
        PARKED_HOSTS = "parked_hosts"
        READ_FRONTS = "read_fronts"
        UNPARK = "unpark"
        UNPARK_NEWEST = "unpark_newest"
        WAITING = "waiting"
    }
    members {
        BEGIN_TO_LEAVE = "begin_to_leave"
        CLAIM = "claim"
        FORGET_GONE = "forget_gone"
        KEEP_FROM_OLDER = "keep_from_older"
        LEAVE = "leave"
        LOCK_SHARES = "lock_shares"
        LOWER_SHARE = "lower_share"
        NOTE_GONE = "note_gone"
        RAISE_SHARE = "raise_share"
        RELEASE = "release"
        RENEW = "renew"
        SHOW_DESTINATIONS = "show_destinations"
        TELL = "tell"
        VIEW_MEMBERS = "view_members"
        VIEW_PARTITIONS = "view_partitions"
    }
    opening {
        OPEN = "open"
    }
    operator {
        FORGET_ATTEMPTS = "forget_attempts"
        FORGET_DEAD_LETTER = "forget_dead_letter"
        IS_MEANT = "is_meant"
        LOCK_LINE = "lock_line"
        OPEN_AGAIN = "open_again"
        REDRIVE_HELD = "redrive_held"
        SKIP = "skip"
    }
    outbox {
        LEFT_BEHIND = "left_behind"
        MARK_PUBLISHED = "mark_published"
        UNPUBLISHED_ONE = "unpublished_one"
    }
    progress {
        ENTER_OUTBOX = "enter_outbox"
        KEEP_WAITING = "keep_waiting"
        RECORD_FAILURES = "record_failures"
    }
    retention {
        SWEEP = "sweep"
    }
    status {
        BLOCKED = "blocked"
        BUSIEST = "busiest"
        DEAD_LETTERS = "dead_letters"
        FIND = "find"
        HOSTS = "hosts"
        IS_ALL_OWNED = "is_all_owned"
        MEMBERS = "members"
        PARTITIONS = "partitions"
        STATES = "states"
        WITHHELD = "withheld"
    }
    stray {
        ANY = "any"
        NOTE = "note"
        PARK_HEADS = "park_heads"
        TAKE = "take"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lifecycle::State;

    #[test]
    fn the_states_that_statements_name_are_those_of_the_lifecycle() {
        for (name, statement) in ALL {
            let clauses: Vec<&str> = statement.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
            let clauses = clauses.join("\n");
            let texts = clauses.split('\'').skip(1).step_by(2);
            let states =
                texts.filter(|text| text.len() > 2 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
            for state in states {
                assert!(state.parse::<State>().is_ok(), "{name} names {state}");
            }
        }
    }
}
