create database w_b
create database w_c character set utf8mb4 collate utf8mb4_bin
create table ints (a tinyint, b smallint unsigned, c mediumint zerofill, d int(5), e integer unsigned, f bigint, g int1, h int2, i int3, j int4, k int8, l middleint, m bool, n boolean not null default true, o tinyint(1), p tinyint(1) unsigned, q int(3) zerofill, r tinyint(1) zerofill, s bigint unsigned zerofill)
create table numbers (a dec, b numeric(5), c fixed(3,1), d decimal(0), e decimal(65,30), f float, g float(10), h float(30), i double, j double precision, k real, l float4, m float8, n float(7,3) unsigned, o double(8,2) zerofill, p bit, q bit(64), r year, s decimal(10,2) zerofill)
create table times (a date, b time, c time(3), d datetime, e datetime(6) default current_timestamp(6) on update current_timestamp(6), f timestamp null, g timestamp(6) not null default '2020-01-01 00:00:00', h datetime(0), i timestamp default current_timestamp on update current_timestamp)
create table chars (a char, b char(10), c varchar(10), d char varying(5), e character(3), f character varying(7), g national char(3), h national varchar(10), i nchar(3), j nvarchar(3), k nchar varchar(2), l varchar(10) binary, m char(3) byte, n varchar(5) ascii, o varchar(5) unicode, p tinytext, q text, r mediumtext, s longtext, t long, u long varchar, v text(10), w text(1000), x text(70000), y text charset utf8mb4, z text(65535) character set utf8mb4, aa varchar(5) collate utf8mb4_bin, ab varchar(10) character set latin1 binary, ac char(0), ad varchar(20) charset binary, ae text charset binary, af varchar(5) charset 'utf8mb4' collate 'utf8mb4_general_ci', ag text(20) charset utf8mb4)
create table bytes (a binary, b binary(7), c varbinary(5), d tinyblob, e blob, f mediumblob, g longblob, h blob(10), i blob(255), j blob(70000), k long varbinary, l blob(20000000))
create table labels (a enum('a','b ','c''d','e\\f','g\nh'), b set('x','y') not null, c enum('ä','ß') charset latin1, d enum('a') charset binary, e set('€','☃') character set utf8mb4 collate utf8mb4_unicode_ci, f enum(0x61, x'62', 'c'), g enum("quoted ""label""", 'it''s'))
create table geo (a geometry, b point not null, c linestring, d polygon, e multipoint, f multilinestring, g multipolygon, h geometrycollection)
create table docs (id serial, j json, k json not null)
create table seri (a bigint unsigned not null, b int serial default value)
create table gen (a int, b int as (a + 1), c int generated always as (a * 2) virtual, d varchar(30) as (concat('x,)', a)) stored comment 'a, (b', e int unique)
create table keys1 (a int, b int not null, c int not null, d varchar(20) not null, unique (a), unique key u_b (b), unique (c, b), unique (d(5)), unique index (d))
create table keys2 (a int primary key, b int unique key, c int)
create table keys4 (x int not null, y varchar(10) not null, constraint pk primary key using btree (y, x) comment 'why', unique key x (x) using btree, constraint check (x > 0))
create table keys3 (a int, b int, c int, primary key (c, a), key (b), constraint un unique (b, a), index i2 (a desc), foreign key (b) references keys4 (x) on delete cascade on update set null)
create table parent (id int primary key, v int references keys4 (x) on delete set null on update cascade)
create table part (a int not null, b int, primary key (a)) engine=innodb default charset=utf8mb4 collate=utf8mb4_bin comment='c' partition by range (a) (partition p0 values less than (10) comment 'x', partition p1 values less than maxvalue)
create table hashed (a int) partition by hash (a) partitions 3
insert into part values (1, 2), (11, 3)
insert into keys1 values (1, 2, 3, 'x')
insert into docs (j, k) values ('{}', '[1, 2]')
insert into ints (a) values (1)
insert into numbers (a) values (1)
insert into times (a) values ('2020-01-01')
insert into chars (a) values ('x')
insert into labels (b) values ('x')
insert into bytes (a) values ('x')
create table likes like keys1
create table w_b.likes (like w_a.chars)
create table w_b.plain (a varchar(10), b text, c enum('a'))
create table w_c.plain (a varchar(10), b text, c enum('a'))
create table if not exists ints (other int)
create table if not exists fresh (other int)
create table made (primary key (a)) as select a + 1 as a, b, 'x' as c from part
create table made2 select 1 as one, now(3) as two, cast('x' as char(5) charset utf8mb4) as three
create temporary table temp (a int, b varchar(10))
create table odd_names (`a b` int, `sel``ect` int, `,)` varchar(5), `Ünïcode` int, `123` int, 1a int, `ends` int)
alter table odd_names rename column `a b` to `b a`, change `sel``ect` `from` bigint, drop column `,)`
alter table odd_names change `ünïcode` ünicode smallint after `from`
alter table `fresh` add column a int first, add b varchar(10) after a, add (c int, d int unique), add e int
insert into fresh values (1, 'x', 2, 3, 4, 5)
alter table fresh add column f int after other, add column g int after f, add h int first
update fresh set f = 1, g = 1, e = 1
alter table fresh drop column a, drop b
alter table fresh modify c bigint unsigned not null after d, modify column d varchar(5) first
alter table fresh change c cc int, change d d2 varchar(7) character set utf8mb4 after cc
alter table fresh rename column e to ee, rename column f to e
alter table fresh rename column e to f, rename column ee to e
alter table fresh alter column e set default 5, alter f drop default
alter table fresh alter column e set default 5, add unique (e)
alter table fresh add unique (e, f), add unique index named (f), add constraint cons unique (g)
alter table fresh drop index e, drop key named
alter table fresh add primary key (g), add unique (g)
alter table fresh drop primary key, add primary key (f, g)
alter table fresh modify f bigint
alter table fresh drop primary key, drop column cc
alter table fresh drop column g
alter table fresh rename to fresh2
alter table fresh2 rename as w_b.fresh3, add z int
alter table w_b.fresh3 rename w_a.fresh
rename table fresh to fresh4
rename table fresh4 to x1, ints to fresh4, x1 to ints
rename table ints to w_b.ints, fresh4 to ints
alter table keys1 modify a int not null
alter table keys1 drop index u_b
alter table keys1 drop index a, modify b int null
alter table keys1 modify c int, modify d varchar(20)
alter table keys2 drop primary key
alter table keys2 modify b int not null
alter table keys3 drop primary key
create unique index ui on times (a)
create unique index ui2 using btree on numbers (a, b desc) comment 'x'
create index plain on times (b)
create fulltext index ft on chars (q)
drop index ui on times
drop index `plain` on times
alter table gen drop column d, modify b int as (a + 2)
alter table gen change b b2 bigint as (a + 3)
alter table chars convert to character set utf8mb4
alter table w_b.likes convert to character set utf8mb4 collate utf8mb4_bin
alter table w_b.plain convert to character set latin1
alter table w_b.plain default character set utf8mb4 collate utf8mb4_bin, add d varchar(5)
alter table w_b.plain add e varchar(5), charset latin1
alter table w_b.plain character set = latin1 collate = latin1_bin
alter table w_b.plain add f varchar(5), modify a varchar(10)
alter table labels modify a enum('a','b','c'), modify b set('x','y','z')
alter table labels drop column c, convert to character set utf8mb4
insert into chars (a) values ('x')
insert into w_b.plain (a) values ('x')
insert into labels (b) values ('z')
alter database w_a character set utf8mb4 collate utf8mb4_unicode_ci
create table after_alter (a varchar(5))
alter database default character set latin1
create table after_alter2 (a varchar(5))
alter table after_alter engine = myisam
alter table after_alter engine=InnoDB row_format=dynamic comment='a, b' auto_increment 5, add b int
alter table after_alter order by a
alter table after_alter add index (a), algorithm=inplace, lock=none
alter table after_alter add column q int, algorithm=inplace
alter table after_alter comment 'x', add column r int
alter table after_alter disable keys
alter table after_alter enable keys
alter table after_alter force
alter table after_alter add constraint ck check (b > 0), add foreign key fk (b) references parent (id)
alter table after_alter drop constraint ck
alter table part truncate partition p0
alter table part drop partition p0
alter table part reorganize partition p1 into (partition p1 values less than (20), partition p2 values less than maxvalue)
create table exch like part
alter table exch remove partitioning
alter table part exchange partition p1 with table exch
alter table part analyze partition p1
alter table hashed add partition partitions 2
alter table hashed coalesce partition 1
alter table part rebuild partition all
alter table part partition by hash (a) partitions 2
/*!50000 create table executed (a int, b int) */
create /*! table */ commented /* , */ (a /* , b int */ int, b int)
set sql_mode = 'ansi_quotes'; create table "ansi" ("a b" int, "c" varchar(5) default 'x')
set sql_mode = 'no_backslash_escapes'; create table slashes (a enum('a\', 'b'), b varchar(5) default '\')
set sql_mode = 'real_as_float'; create table reals (a real)
set sql_mode = ''; create table loose (a varchar(30000) character set utf8mb4, b varbinary(70000))
set sql_mode = 'pipes_as_concat'; create table piped (a int default (1), b varchar(5) default 'x')
create table defaults (a int default -1, b decimal(5,2) default 1.5e0, c varchar(20) default 'a, b' 'c', d varchar(5) default _utf8mb4'x', e bit(3) default b'101', f binary(2) default x'4142', g varchar(36) default (uuid()), h datetime default now(), i datetime(3) default current_timestamp(3), j int default (1 + (2 * 3)), k date default '2020-01-01', l double default 1e5, m double default -.5, n int default null, o varchar(9) default N'x', p double default 1.5e-3, q double default 1e-5, r varbinary(4) default 0x41)
truncate table ints
truncate loose
create view vw as select 1 as a
create or replace view vw as select 2 as b
alter view vw as select 3 as c
drop view vw
create procedure pr() create table inside (a int, b varchar(3))
call pr()
drop procedure pr
create trigger tr before insert on ints for each row set new.a = 1
drop trigger tr
create user w_user identified by 'x'
drop user w_user
drop temporary table if exists nothing
drop table if exists nothing_at_all, made2
drop table made, w_b.likes
drop table `w_a`.`loose` restrict
create table _old_gho like ints
alter table _old_gho add column extra varchar(10), add unique key (a)
rename table ints to _ints_del, _old_gho to ints
drop table if exists _ints_del
rename table ints to swap_tmp, numbers to ints, swap_tmp to numbers
insert into numbers (b) values (1)
create database if not exists w_d default charset utf8mb4 default collate utf8mb4_general_ci
create table w_d.t (a varchar(3), b char(2) collate utf8mb4_bin)
create database if not exists w_d default charset latin1
create table w_d.t2 (a varchar(3))
drop database w_d
drop schema if exists w_d
create table w_b.ends (a int);
create table w_b.many (c1 int, c2 int, c3 int, c4 int, c5 int, c6 int, c7 int, c8 int, c9 int, c10 int)
alter table w_b.many modify c10 int first, modify c1 int after c10, modify c5 int after c9, add c11 int after c5, drop c2, add c2 varchar(5) first
alter table w_b.many change c3 c4 int, change c4 c3 int
alter table w_b.many add unique (c6), add unique c6_9 (c6), add unique (c7, c6)
alter table w_b.many rename index c6_9 to c6_8, drop column c10
insert into w_b.many (c6) values (1)
