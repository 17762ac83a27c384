-- A small shop for deploy/try: 500 products, 2,000 customers, 5,000 orders of 1 to 5 items.
create schema shop;
set search_path = shop;
select setseed(0.42);

create type status as enum ('new', 'paid', 'shipped', 'cancelled');
create table customers (
  id bigint generated always as identity primary key,
  name text not null,
  email text not null unique,
  joined date not null,
  profile jsonb not null default '{}'
);
create table products (
  sku text primary key,
  title text not null,
  price numeric(10,2) not null check (price > 0),
  tags text[] not null default '{}',
  changed_at timestamptz not null default now()
);
create table orders (
  id bigint generated always as identity primary key,
  customer_id bigint not null references customers,
  status status not null default 'new',
  ordered_at timestamptz not null default now(),
  paid_at timestamptz,
  note text
);
create index on orders (status, id);
create table order_items (
  order_id bigint not null references orders on delete cascade,
  line int not null,
  sku text not null references products,
  quantity int not null,
  price numeric(10,2) not null,
  primary key (order_id, line)
);

insert into products (sku, title, price, tags)
select format('P-%s', lpad(n::text, 4, '0')), (array['Lamp', 'Chair', 'Mug', 'Desk', 'Rug'])[1 + n % 5] || ' no. ' || n,
       round((5 + random() * 500)::numeric, 2), (array['new', 'sale', 'eco "green"'])[1 : n % 4]
from generate_series(1, 500) n;
insert into customers (name, email, joined, profile)
select name || ' ' || n, lower(name) || n || '@example.org', date '2020-01-01' + n,
       jsonb_build_object('newsletter', n % 3 = 0, 'visits', (random() * 100)::int, 'city', null)
from (select n, (array['Ada', 'Grace', 'Edsger', 'Barbara', 'Zoë', 'Łukasz', '李'])[1 + n % 7] as name from generate_series(1, 2000) n) c;
insert into orders (customer_id, status, ordered_at, paid_at)
select 1 + floor(random() * 2000), case when n > 4990 then 'new' else 'shipped' end::status, at, case when n <= 4990 then at + interval '1 hour' end
from (select n, now() - (5000 - n) * interval '10 minutes' as at from generate_series(1, 5000) n) o;
insert into order_items
select o.id, line, p.sku, 1 + (o.id + line) % 3, p.price
from orders o
cross join generate_series(1, 1 + o.id % 5) line
join products p on p.sku = format('P-%s', lpad((1 + (o.id * 7 + line * 13) % 500)::text, 4, '0'));
analyze;
