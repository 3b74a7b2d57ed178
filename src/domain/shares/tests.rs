//! Shares by tables, and what must hold for all of them.

use proptest::prelude::*;

use super::*;

fn ready(count: usize) -> Vec<Peer> {
    vec![Peer { host_cap: 50, is_ready: true }; count]
}

fn owned(owners: &[usize]) -> Vec<Owner> {
    owners.iter().map(|&owner| Owner::Member(owner)).collect()
}

#[test]
fn a_lone_member_takes_everything() {
    let plan = plan(0, &ready(1), &[Owner::Nobody; 4]);
    assert_eq!(plan, Plan { host_share: 50, give_up: vec![], claim: vec![0, 1, 2, 3] });
}

#[test]
fn a_second_member_gets_half_and_only_what_has_to_move_moves() {
    let owners = owned(&[0, 0, 0, 0, 0]);
    let first = plan(0, &ready(2), &owners);
    assert_eq!(first, Plan { host_share: 25, give_up: vec![3, 4], claim: vec![] });
    assert_eq!(plan(1, &ready(2), &owners).claim, [0; 0], "nothing is free yet");
    let owners = [Owner::Member(0), Owner::Member(0), Owner::Member(0), Owner::Nobody, Owner::Member(0)];
    assert_eq!(plan(1, &ready(2), &owners).claim, [3]);
}

#[test]
fn the_odd_partition_stays_with_whoever_has_it() {
    let owners = owned(&[1, 0, 1, 0, 1]);
    for me in 0..2 {
        assert_eq!(plan(me, &ready(2), &owners), Plan { host_share: 25, give_up: vec![], claim: vec![] });
    }
}

#[test]
fn nobody_gives_up_anything_to_a_member_that_cannot_deliver_yet() {
    let peers = [Peer { host_cap: 50, is_ready: true }, Peer { host_cap: 50, is_ready: false }];
    let first = plan(0, &peers, &owned(&[0, 0]));
    assert_eq!(first, Plan { host_share: 25, give_up: vec![], claim: vec![] }, "but its share of the cap shrinks");
    assert_eq!(plan(1, &peers, &[Owner::Nobody; 2]).claim, [0; 0]);
}

#[test]
fn the_heirs_of_a_leaving_member_wait_for_it() {
    let owners = [Owner::Member(0), Owner::Leaving, Owner::Nobody, Owner::Leaving];
    assert_eq!(plan(0, &ready(1), &owners).claim, [2]);
}

#[test]
fn more_members_than_partitions_or_than_the_cap_stand_by() {
    assert_eq!(plan(2, &ready(3), &[Owner::Nobody; 2]), Plan { host_share: 0, give_up: vec![], claim: vec![] });
    let small = vec![Peer { host_cap: 2, is_ready: true }; 3];
    assert_eq!(plan(0, &small, &[Owner::Nobody; 9]).host_share, 1);
    assert_eq!(plan(2, &small, &[Owner::Nobody; 9]), Plan { host_share: 0, give_up: vec![], claim: vec![] });
}

#[test]
fn the_least_cap_holds_for_all() {
    let peers = [Peer { host_cap: 50, is_ready: true }, Peer { host_cap: 9, is_ready: true }];
    let shares: Vec<_> = (0..2).map(|me| plan(me, &peers, &[Owner::Nobody; 2]).host_share).collect();
    assert_eq!(shares, [5, 4]);
}

/// Members with their readiness, and owners of up to 40 partitions.
fn clusters() -> impl Strategy<Value = (Vec<Peer>, Vec<Owner>)> {
    let peer = (1..60_u16, any::<bool>()).prop_map(|(host_cap, is_ready)| Peer { host_cap, is_ready });
    prop::collection::vec(peer, 1..8).prop_flat_map(|peers| {
        let members = peers.len();
        let owner = prop_oneof![
            Just(Owner::Nobody),
            Just(Owner::Leaving),
            (0..members).prop_map(Owner::Member),
            (0..members).prop_map(Owner::Member),
        ];
        (Just(peers), prop::collection::vec(owner, 1..40))
    })
}

proptest! {
    #[test]
    fn shares_of_the_cap_add_up_to_it((peers, owners) in clusters()) {
        let plans: Vec<_> = (0..peers.len()).map(|me| plan(me, &peers, &owners)).collect();
        let cap = host_cap(&peers);
        prop_assert_eq!(plans.iter().map(|plan| plan.host_share).sum::<u16>(), cap);
        let working = working(peers.len(), owners.len(), cap);
        for (me, plan) in plans.iter().enumerate() {
            prop_assert_eq!(plan.host_share > 0, me < working, "whoever works can deliver");
        }
    }

    #[test]
    fn a_partition_is_claimed_by_one_member_at_most_and_only_if_it_is_free((peers, owners) in clusters()) {
        let claims: Vec<i32> = (0..peers.len()).flat_map(|me| plan(me, &peers, &owners).claim).collect();
        let mut once = claims.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), claims.len());
        for partition in claims {
            prop_assert_eq!(owners[usize::try_from(partition).unwrap()], Owner::Nobody);
        }
    }

    /// Everybody acts on the same view, over and over: it comes to rest with even shares.
    #[test]
    fn it_comes_to_rest_balanced((mut peers, mut owners) in clusters()) {
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.is_ready = true;
            peer.host_cap = peer.host_cap.max(8 + u16::try_from(index).unwrap());
        }
        let before = owners.clone();
        for _ in 0..3 {
            let plans: Vec<_> = (0..peers.len()).map(|me| plan(me, &peers, &owners)).collect();
            for (me, plan) in plans.into_iter().enumerate() {
                for partition in plan.give_up {
                    owners[usize::try_from(partition).unwrap()] = Owner::Nobody;
                }
                for partition in plan.claim {
                    owners[usize::try_from(partition).unwrap()] = Owner::Member(me);
                }
            }
            owners.iter_mut().filter(|owner| **owner == Owner::Leaving).for_each(|owner| *owner = Owner::Nobody);
        }
        let working = working(peers.len(), owners.len(), host_cap(&peers));
        let held = |owners: &[Owner], me| owners.iter().filter(|owner| **owner == Owner::Member(me)).count();
        let counts: Vec<_> = (0..working).map(|me| held(&owners, me)).collect();
        prop_assert_eq!(counts.iter().sum::<usize>(), owners.len(), "nothing is without an owner");
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
        // Nobody loses a partition that is within its quota.
        for me in 0..working {
            let (had, has) = (held(&before, me), held(&owners, me));
            let kept = before.iter().zip(&owners).filter(|(a, b)| **a == Owner::Member(me) && a == b).count();
            prop_assert_eq!(kept, had.min(has), "member {}: {:?} to {:?}", me, before, owners);
        }
    }
}
