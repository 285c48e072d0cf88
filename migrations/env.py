"""What alembic runs. Its connection is that of models/schema.py, in autocommit."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
context.run_migrations()
