10.10: create table uu (a uuid, b inet4)
create table ine (a inet6 primary key)
insert into ine values ('::1')
11.7: create table vec (a vector(3) not null, vector index (a))
create table comp (a text compressed, b varchar(50) compressed, c blob compressed=zlib, d varchar(10) compressed default 'x' not null)
insert into comp (a) values ('x')
create table jsn (a json default 'null', b longtext character set utf8mb4 collate utf8mb4_bin check (json_valid(b)), c text check (json_valid(c)), d json not null check (json_valid(`d`) and d <> ''))
alter table jsn modify b longtext
alter table jsn change a aa json first
alter table jsn rename column c to cc
insert into jsn values ('{}', 'x', '[]', '[]')
create table sv (a int primary key) with system versioning
insert into sv values (1)
set system_versioning_alter_history = keep; alter table sv add column b int
insert into sv values (2, 3)
alter table sv drop system versioning
alter table sv add system versioning
create table sv2 (a int, s timestamp(6) generated always as row start, e timestamp(6) generated always as row end, period for system_time (s, e)) with system versioning
create table sv3 (a int with system versioning, b int without system versioning)
create table sv4 (a int, s bigint unsigned generated always as row start invisible, e bigint unsigned as row end invisible, period for system_time (s, e)) with system versioning engine=innodb
insert into sv3 values (1, 2)
create table app (a int, d1 date, d2 date, period for p (d1, d2))
10.5: create table app2 (a int, d1 date, d2 date, period for p (d1, d2), unique (a, p without overlaps))
create table hashu (a text, b blob not null, c int, unique (a), unique ub (b))
insert into hashu values ('x', 'y', 1)
alter table hashu add column d int
insert into hashu values ('xx', 'yy', 1, 2)
alter table hashu drop index a
alter table hashu drop index ub, drop column a
create table hashv (a varchar(2000) character set utf8mb4, unique (a))
create table hashx (a int not null, unique (a) using hash)
create table inv (a int primary key, b int invisible default 1, c int as (a) persistent, d int as (a) virtual invisible)
alter table inv modify b int, modify d int as (a) virtual
create or replace table inv (x int, y varchar(5))
create or replace table inv2 like inv
alter table if exists nothing add column x int
alter table if exists inv add column if not exists z int, add column if not exists x bigint
alter table inv drop column if exists nope, drop if exists z, modify column if exists nope int, change column if exists nope nope2 int
alter table inv add unique index if not exists ux (x), add unique if not exists ux (x), drop index if exists nope
alter table inv wait 5 add column w int
alter table inv nowait add column w2 int
alter online table inv add column w3 int
alter ignore table inv add unique (y)
10.5: alter table inv rename index ux to uy
create unique index if not exists ux on inv (x)
create or replace unique index ux on inv (w)
drop index if exists ux on inv
drop index if exists ux on inv
10.5: rename table if exists nothing to nothing2, inv to inv3
10.5: rename table if exists inv3 wait 2 to inv
create sequence sq
select nextval(sq)
alter sequence sq restart 5
drop sequence sq
create or replace database w_e character set utf8mb4
create table w_e.t (a int)
create or replace database w_e
set sql_mode = 'oracle'; create table ora (a varchar2(10), b number(5,2), c number, d clob, e raw(5), f date, g blob)
set explicit_defaults_for_timestamp = 0; create table ts (a timestamp, b timestamp null, c timestamp default 0, d datetime)
set explicit_defaults_for_timestamp = 1; create table ts2 (a timestamp, b timestamp null, c timestamp not null)
create table y2 (a year(2), b year(4))
create table refsys (a point ref_system_id=4326)
create table opts (a int, b varchar(5)) engine=aria transactional=1 page_checksum=0 with system versioning
/*M! create table mtable (a int) */
/*!100100 create table mtable2 (a int /*!50701 , b int */) */
create sequence sq2
create table dflt (a int default (1 + 2), b varchar(40) default uuid(), c int default 1 not null, d int default next value for w_a.sq2)
truncate table dflt wait 1
drop table if exists dflt wait 1
11.4: set character_set_collations = 'latin1=latin1_bin'; create table csc (a varchar(5), b varchar(5) character set latin1) character set latin1
create table uca (a varchar(5) collate utf8mb4_general_ci, b varchar(5) character set utf8mb3)
11.4: create table uca2 (a varchar(5) character set utf8mb4 collate uca1400_as_cs, b char(3)) collate uca1400_ai_ci
create table cpart (a int primary key, b varchar(5)) partition by range (a) (partition p0 values less than (10), partition p1 values less than maxvalue)
10.7: alter table cpart convert partition p0 to table cfree
10.7: alter table cpart convert table cfree to partition p0 values less than (5)
10.7: create table after_cpart (a int)
create table twice (id int primary key, z int, y int)
alter table twice add column n varbinary(9) not null first, modify z varchar(20) not null first, change z n varchar(20) comment 'of the one that is added'
insert into twice (id, z) values (1, 'z')
alter table twice add column m int, change y x bigint, change y m varchar(5) first
insert into twice (id, z) values (2, 'z')
create table keyorder (n date unique, b varbinary(9) unique, k int, z int, primary key (b, k))
alter table keyorder drop primary key
create table keyorder_like like keyorder
alter table keyorder modify b bigint not null
alter table keyorder add index (z)
create table keyorder2 (p int not null unique, n int unique, b int unique)
alter table keyorder2 modify b int not null
alter table keyorder2 modify p bigint not null, add index if not exists n (n)
alter table keyorder2 change p q int null
create table keyorder3 (p int not null unique, n int unique, b int unique)
alter table keyorder3 modify b int not null
alter table keyorder3 drop index p, modify p int null
create table keyorder4 (p int not null unique, n int unique, b int unique)
alter table keyorder4 modify b int not null
alter table keyorder4 drop column p
create table keyorder5 (h varchar(9) not null unique, n int unique, b int unique)
alter table keyorder5 modify h text not null, modify b int not null
create table keyorder5_like like keyorder5
