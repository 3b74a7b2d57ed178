//! What `--poison` asks for: messages that no worker can deliver, and messages that no polite client sends.

use std::str::FromStr;

use super::hostile::kinds::COUNT;

/// So many of each are sent at most.
const MOST_CONTRACT: u32 = 1_000_000;
/// Each is up to 128 KiB large.
const MOST_HOSTILE: u32 = 100_000;

/// How many messages are sent that are no events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Poison {
    /// Such as break the contract.
    pub contract: u32,
    /// Such as no client sends.
    pub hostile: u32,
}

impl FromStr for Poison {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str, most: u32| match text.parse::<u32>() {
            Ok(number) if number <= most => Ok(number),
            Ok(_) => Err(format!("{text} is more than {most}")),
            Err(_) => Err("write a number, hostile, hostile:200, or both: 10,hostile".to_owned()),
        };
        let mut poison = Self::default();
        for part in text.split(',').map(str::trim) {
            match part.strip_prefix("hostile") {
                Some("") => poison.hostile = COUNT,
                Some(rest) => poison.hostile = number(rest.strip_prefix(':').unwrap_or_default(), MOST_HOSTILE)?,
                None => poison.contract = number(part, MOST_CONTRACT)?,
            }
        }
        Ok(poison)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_is_a_number_or_hostile_or_both() {
        let table = [
            ("0", 0, 0),
            ("10", 10, 0),
            ("hostile", 0, COUNT),
            ("hostile:20", 0, 20),
            ("10,hostile", 10, COUNT),
            ("10, hostile:200", 10, 200),
            ("hostile:0,7", 7, 0),
        ];
        for (text, contract, hostile) in table {
            assert_eq!(text.parse(), Ok(Poison { contract, hostile }), "{text}");
        }
        for text in ["", "-1", "many", "10,", "hostile:", "hostile=3", "hostiles", "hostile:x", "contract"] {
            let error = text.parse::<Poison>().expect_err(text);
            assert!(error.contains("write a number, hostile"), "{text}: {error}");
        }
        for text in ["1000001", "hostile:100001"] {
            assert!(text.parse::<Poison>().expect_err(text).contains("more than"), "{text}");
        }
    }
}
