-- One round of the shop's life, each statement a transaction of its own; deploy/try runs it again and again.
set search_path = shop;

begin;
insert into orders (customer_id, note)
select 1 + floor(random() * 2000), (array[null, 'gift', E'ring twice,\nplease'])[1 + floor(random() * 3)::int];
insert into order_items
select currval('orders_id_seq'), row_number() over (), sku, 1 + floor(random() * 3)::int, price
from (select sku, price from products order by random() limit 1 + floor(random() * 4)) basket;
commit;

update orders set status = 'paid', paid_at = clock_timestamp()
where id = (select min(id) from orders where status = 'new');

update orders set status = 'shipped', note = coalesce(note || ', ', '') || 'parcel ' || id
where id = (select min(id) from orders where status = 'paid' and random() < 0.8);

update products set price = round(price * (0.9 + random() * 0.21)::numeric, 2) + 0.01, changed_at = clock_timestamp()
where sku = (select sku from products order by random() limit 1);

update orders set status = 'cancelled' where id = (select max(id) from orders where status = 'new' and random() < 0.3);

delete from orders where id = (select min(id) from orders where status = 'cancelled' and random() < 0.5);

update customers set profile = profile || jsonb_build_object('visits', (profile->>'visits')::int + 1)
where id = 1 + floor(random() * 2000);
