-- What an open event o leaves out. `offset 0`: of a subquery with it, the planner can't make a join.
cross join lateral (select * from event where id = o.event_id offset 0) e
