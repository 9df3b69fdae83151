"""The table of published resources: one line per model in the change feed."""

from app.features.attributes import service as attributes
from app.features.attributes.models import Attribute
from app.features.attributes.schemas import AttributeSchema
from app.features.brands import service as brands
from app.features.brands.models import Brand
from app.features.brands.schemas import BrandSchema
from app.features.categories import service as categories
from app.features.categories.models import Category
from app.features.categories.schemas import CategorySchema
from app.features.imports import service as imports
from app.features.imports.models import Import
from app.features.imports.schemas import ImportSchema
from app.features.media import service as media
from app.features.media.models import Asset
from app.features.media.schemas import MediaSchema
from app.features.product_types import service as product_types
from app.features.product_types.models import ProductType
from app.features.product_types.schemas import ProductTypeSchema
from app.features.products import listing as products
from app.features.products.models import Product
from app.features.products.schemas import ProductSchema, ProductWithVariantsSchema
from app.security.permissions import Permission
from app.web.resources import Children, Resource, find_objects

RESOURCES = (
    Resource(
        Product,
        ProductSchema,
        Permission.PRODUCTS_READ,
        products.visible_to,
        children=Children(
            "variants", "parent_id", ("position", "id"), given="variant_count", schema=ProductWithVariantsSchema
        ),
    ),
    Resource(Category, CategorySchema, Permission.CATEGORIES_READ, categories.visible_to),
    Resource(Brand, BrandSchema, Permission.BRANDS_READ, brands.visible_to),
    Resource(Asset, MediaSchema, Permission.MEDIA_READ, media.visible_to),
    Resource(Attribute, AttributeSchema, Permission.TYPES_READ, attributes.visible_to),
    Resource(ProductType, ProductTypeSchema, Permission.TYPES_READ, product_types.visible_to),
    Resource(
        Import, ImportSchema, Permission.PRODUCTS_WRITE, imports.visible_to, find=find_objects, shows_hidden=False
    ),
)
