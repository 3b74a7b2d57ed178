//! A machine that is suspended: for its worker no time has passed, and meanwhile another one has its partitions.

use std::iter;
use std::time::Duration;

use onceward::commands::verify::link::{Commit, Link, Which};

use crate::support::{Cluster, Load, Suspendable, test};

/// More than twice the lease that the harness gives its workers.
const SUSPENDED: Duration = Duration::from_secs(7);
/// So long a commit takes when the worker is suspended: almost surely, one is under way. It takes place, and what it begins
/// is at hand when the worker goes on.
const SLOW: Duration = Duration::from_millis(300);
const EVEN: Duration = Duration::from_secs(8);

#[test]
fn one_whose_machine_is_suspended_for_longer_than_its_lease_sends_nothing_when_it_goes_on() {
    test(Load::Alone, async |world| {
        let (cluster, first) = Cluster::start(world).await;
        let link = Link::to(&world.database_url).await.expect("a link");
        let through = link.through(&world.database_url).expect("a URL");
        let settings = [&Cluster::SETTINGS[..], &["--database-url", &through]].concat();
        let mut second = Suspendable::start(world, &settings).await;
        let mut faults = Vec::new();
        for _ in 0..2 {
            cluster.database.wait_for_even_shares(EVEN, 2).await;
            link.on_commits(Which::Any, iter::repeat(Commit::Delay(SLOW)));
            cluster.run_for(Duration::from_secs(1)).await;
            faults.push(second.suspend(SUSPENDED).await);
            link.on_commits(Which::Any, []);
            cluster.run_for(Duration::from_secs(1)).await;
        }
        cluster.database.wait_for_even_shares(EVEN, 2).await;
        cluster.ends_well(&[&first, &second], &faults).await;
    });
}
