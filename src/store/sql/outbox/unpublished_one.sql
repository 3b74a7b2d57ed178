-- The dead letter of the event $1, with its history, if it is not published.
select
  d.event_id,
  {failed_us} as failed_us,
  e.idempotency_key,
  d.reason,
  e.entity,
  e.properties,
  e.body,
  e.trace,
  -- An event that holds its line is open, all others are final.
  coalesce(o.attempts, f.attempts, 0::int2) as attempts,
  coalesce(
    (
      select json_agg(
        json_strip_nulls(
          json_build_object(
            'attempt', a.attempt,
            'started_at', to_char(
              (a.ended_at - coalesce(a.duration_ms, 0) * interval '1 ms') at time zone 'utc',
              'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
            ),
            'duration_ms', a.duration_ms,
            'status', a.status,
            'answer', a.answer,
            'error', a.error
          )
        )
        order by a.attempt
      )
      from failed_attempt a
      where a.event_id = d.event_id
    ),
    '[]'
  )::text as history
from dead_letter d
join event e on e.id = d.event_id
left join open_event o on o.event_id = d.event_id
left join final_event f on f.event_id = d.event_id
where d.event_id = $1
  and d.published_at is null
