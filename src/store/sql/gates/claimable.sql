-- Hosts, $3 at most, that may be probed now, and for which events of the partitions $1 wait, but for those of the
-- entities $2, which are paused.
select g.host
from gate g
where g.state in ('shut', 'probing')
  -- A clock that was set back must not keep a host waiting.
  and (g.next_at <= clock_timestamp() or g.changed_at > clock_timestamp())
  and not exists (
    select from pause p
    where (p.scope = 'everything' or (p.scope = 'host' and p.name = g.host))
      and (p.until is null or p.until > clock_timestamp())
    offset 0
  )
  and exists (
    select
    from unnest($1::int4[]) as a (partition)
    -- By the index open_event_waiting.
    cross join lateral (
      select from open_event o
      where o.parked
        and o.partition = a.partition
        and o.host = g.host
        and o.entity <> all($2::text[])
      limit 1
    ) waiting
  )
order by g.next_at
limit $3
