create table vec (a vector, b vector(3))
create table srs (a point not null srid 4326, b geometry srid 0, c geomcollection)
alter table srs modify a point not null srid 0
create table inv (a int primary key, b int invisible, c int as (a) virtual invisible, d int visible)
alter table inv alter column b set visible, alter d set invisible
alter table inv add e int invisible first
insert into inv (a) values (1)
insert into vec values (null, null)
set sql_generate_invisible_primary_key = on; create table gipk (a int, b varchar(5))
insert into gipk values (1, 'x')
alter table gipk alter column my_row_id set visible
alter table gipk drop primary key, drop column my_row_id
create table func (a int not null, b varchar(10), unique ((a + 1)), unique u2 ((lower(b)), a), index ((a * 2)))
insert into func values (1, 'x')
alter table func add column c int after a
create table multi (a json, index mv ((cast(a->'$[*]' as unsigned array))))
insert into multi values ('[1]')
create table chk (a int check (a > 0) not enforced, constraint c2 check (a < 10) enforced)
alter table chk alter check c2 not enforced
alter table chk drop check c2
alter table w_b.many drop column c7
create table attrs (a int column_format fixed storage disk comment 'x', b varchar(5))
set explicit_defaults_for_timestamp = off; create table ts (a timestamp, b timestamp null, d datetime)
set default_collation_for_utf8mb4 = utf8mb4_general_ci; create table defc (a varchar(5) charset utf8mb4) charset utf8mb4
create table enc (a int) encryption='N' secondary_engine=x
create table autoex (a int) autoextend_size 4m
create table st (a int primary key) start transaction
insert into attrs values (1, 'x')
create table gb (a varchar(10) charset gb18030, b text(100) charset gb18030)
create table u2 (a varchar(10) charset utf8mb3, b varchar(10) charset utf8, c varchar(10) charset ucs2, d varchar(10) charset sjis)
insert into u2 values ('x','x','x','x')
create database w_e encryption 'n'
alter database w_e read only = 1
alter database w_e read only = 0
