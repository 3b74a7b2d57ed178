-- Bodies beyond 2 kB are compressed by LZ4 where the server has it (PostgreSQL 14 and later, as almost all are built): what
-- the server would take otherwise, pglz, costs five to seven times the CPU, also for bodies that don't compress at all.
do $$
begin
    execute 'alter table event alter column body set compression lz4';
exception
    when feature_not_supported or syntax_error then null;
end
$$;
