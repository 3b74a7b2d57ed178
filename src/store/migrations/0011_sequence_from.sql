-- Where messages say which number they have, as `--sequence-from` of the workers has it.
alter table cluster add column sequence_from text not null default 'header:sequence';
