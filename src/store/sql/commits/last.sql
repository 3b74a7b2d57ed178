-- The last commit of the member $1. If it is still under way, its lock is waited for.
select number from writer_commit where member = $1 for update
