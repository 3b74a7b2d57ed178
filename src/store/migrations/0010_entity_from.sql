-- Where messages say whose order they belong to, as `--entity-from` has it.
alter table cluster add column entity_from text not null default 'routing-key';
